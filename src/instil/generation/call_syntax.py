"""The syntaxes in which models write tool calls, each read from the left.

A reader starts behind the marker of its syntax. It returns the calls, reports that the text is no call, or reports
that it needs more text. It never looks past what it has read, so more text cannot change a result.

Source: the chat templates of the models that each function names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from instil.conversation import EMPTY, ToolCall
from instil.conversation.strict_json import RefusedJson, parse_text

Calls: TypeAlias = tuple[ToolCall, ...]
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]+|\\.)*')
_BRACKET_OR_QUOTE = re.compile(r'[{}\[\]"]')
_NAME = re.compile(r"[\w.-]*")
_CALL_KEYS = ("name", "arguments", "parameters", "id", "type")


class NoCallError(Exception):
    """The text is no call of this syntax, whatever follows."""


class MoreTextNeededError(Exception):
    """The text so far is the beginning of a call."""


class Cursor:
    """A place in a text that may still grow.

    Args:
        text: The text so far.
        at: Where to start.
        tools: Names that may be called; None allows every name.
        final: Whether the text is complete.
    """

    def __init__(self, text: str, at: int, *, tools: Collection[str] | None, final: bool) -> None:
        self.text, self.at, self.final = text, at, final
        self._tools = tools

    def space(self) -> None:
        """Skip white space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def ends(self) -> bool:
        """Skip white space; return True if a complete text ends here."""
        self.space()
        return self.final and self.at == len(self.text)

    def skip(self, literal: str) -> bool:
        """Skip a literal; return False if something else stands here."""
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        if not self.final and literal.startswith(self.text[self.at :]):
            raise MoreTextNeededError
        return False

    def expect(self, literal: str) -> None:
        """Skip a literal that must stand here."""
        if not self.skip(literal):
            raise NoCallError

    def until(self, literal: str) -> str:
        """Return the text before a literal, and skip both."""
        end = self.text.find(literal, self.at)
        if end < 0:
            raise self.unfinished()
        start, self.at = self.at, end + len(literal)
        return self.text[start:end]

    def name(self) -> str:
        """Return the name of a tool, which must be one that may be called."""
        match = _NAME.match(self.text, self.at)
        assert match is not None
        if match.end() == len(self.text) and not self.final:
            raise MoreTextNeededError
        self.at = match.end()
        return self.known(match[0])

    def known(self, name: str) -> str:
        """Return a name if it may be called."""
        if not name or (self._tools is not None and name not in self._tools):
            raise NoCallError
        return name

    def unfinished(self) -> Exception:
        """Return the exception for a text that ends too early."""
        return NoCallError() if self.final else MoreTextNeededError()

    def json(self) -> Any:
        """Read an object or a list."""
        start, depth = self.at, 0
        if start == len(self.text):
            raise self.unfinished()
        if self.text[start] not in "{[":
            raise NoCallError
        while match := _BRACKET_OR_QUOTE.search(self.text, self.at):
            self.at = match.end()
            if match[0] == '"':
                self._skip_string(match.start())
                continue
            depth += 1 if match[0] in "{[" else -1
            if depth == 0:
                return read_json(self.text[start : self.at])
        raise self.unfinished()

    def _skip_string(self, start: int) -> None:
        match = _STRING.match(self.text, start)
        assert match is not None
        self.at = match.end()
        if self.text[self.at :] in ("", "\\"):
            raise self.unfinished()
        # JSON allows no control character in a string: the text is not JSON, whatever follows.
        self.expect('"')

    def json_object(self) -> dict[str, Any]:
        """Read an object."""
        value = self.json()
        if not isinstance(value, dict):
            raise NoCallError
        return value

    def json_calls(self, value: Any) -> Calls:
        """Return the calls of a JSON value: one call, or a list of them."""
        values = value if isinstance(value, list) else [value]
        if not values:
            raise NoCallError
        return tuple(self._json_call(item) for item in values)

    def _json_call(self, value: Any) -> ToolCall:
        """Read ``{"name": …, "arguments" | "parameters": …}``, bare or under ``function``."""
        if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
            value = {**value, **value["function"]}
            del value["function"]
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise NoCallError
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            parsed = value_of(arguments)
            arguments = parsed if isinstance(parsed, dict) else arguments
        if not isinstance(arguments, str | Mapping):
            raise NoCallError
        call_id = value.get("id")
        extra = {key: item for key, item in value.items() if key not in _CALL_KEYS}
        call_id = call_id if isinstance(call_id, str) else None
        return ToolCall(self.known(value["name"]), arguments, call_id, extra or EMPTY)


def read_json(text: str) -> Any:
    """Read JSON that a client can read again: no NaN, no half surrogate pair, no key twice."""
    try:
        return parse_text(text)
    except (ValueError, RecursionError, RefusedJson):
        raise NoCallError from None


def value_of(text: str) -> Any:
    """Read an untyped parameter: as JSON if it parses, else as text."""
    try:
        return read_json(text)
    except NoCallError:
        return text


def _tagged(cursor: Cursor) -> Calls:
    """Read ``<tool_call>``: JSON (Hermes, Qwen), XML parameters (Qwen3-Coder), or keys and values (GLM)."""
    cursor.space()
    if cursor.text[cursor.at : cursor.at + 1] in ("{", "["):
        calls = cursor.json_calls(cursor.json())
    elif cursor.skip("<function="):
        calls = _function_xml(cursor)
    else:
        calls = (_arg_pairs(cursor),)
    # An answer may end in front of the closing tag.
    if not cursor.ends():
        cursor.expect("</tool_call>")
    return calls


def _function_xml(cursor: Cursor) -> Calls:
    r"""Read functions behind ``<function=``, each with ``<parameter=key>\nvalue\n</parameter>``."""
    calls: list[ToolCall] = []
    while not calls or cursor.skip("<function="):
        name, arguments = cursor.name(), {}
        cursor.expect(">")
        cursor.space()
        while cursor.skip("<parameter="):
            key = cursor.until(">")
            arguments[key] = value_of(cursor.until("</parameter>").removeprefix("\n").removesuffix("\n"))
            cursor.space()
        cursor.expect("</function>")
        calls.append(ToolCall(name, arguments))
        if cursor.ends():
            break
    return tuple(calls)


def _arg_pairs(cursor: Cursor) -> ToolCall:
    name, arguments = cursor.name(), {}
    while not cursor.ends() and cursor.skip("<arg_key>"):
        key = cursor.until("</arg_key>").strip()
        cursor.space()
        cursor.expect("<arg_value>")
        arguments[key] = value_of(cursor.until("</arg_value>"))
    return ToolCall(name, arguments)


def _mistral(cursor: Cursor) -> Calls:
    """Read ``[TOOL_CALLS]`` with a JSON list, or with ``name[CALL_ID]id[ARGS]{…}``."""
    cursor.space()
    if cursor.text[cursor.at : cursor.at + 1] in ("{", "["):
        return cursor.json_calls(cursor.json())
    name, call_id = cursor.name(), None
    if cursor.skip("[CALL_ID]"):
        match = _NAME.match(cursor.text, cursor.at)
        assert match is not None
        call_id, cursor.at = match[0], match.end()
        if not cursor.text[cursor.at :]:
            raise cursor.unfinished()
    cursor.skip("[ARGS]")
    cursor.space()
    return (ToolCall(name, cursor.json_object(), call_id),)


def _python_tag(cursor: Cursor) -> Calls:
    """Read JSON calls behind ``<|python_tag|>``, separated by semicolons (Llama 3.1)."""
    cursor.space()
    calls = cursor.json_calls(cursor.json())
    end = cursor.at
    try:
        while not cursor.ends() and cursor.skip(";"):
            cursor.space()
            calls += cursor.json_calls(cursor.json())
            end = cursor.at
    except NoCallError:
        pass  # what follows the last call is text
    cursor.at = end
    return calls


def _bare_json(cursor: Cursor) -> Calls:
    """Read an answer that consists of JSON calls, as Llama 3 writes them."""
    calls: Calls = ()
    while True:
        value = cursor.json_object()
        if set(value) - {"type"} not in ({"name", "parameters"}, {"name", "arguments"}, {"function"}):
            raise NoCallError
        calls += cursor.json_calls(value)
        if cursor.ends():
            return calls
        cursor.skip(";")
        cursor.space()


def _deepseek(cursor: Cursor) -> Calls:
    """Read a block of DeepSeek calls: arguments fenced as JSON (R1), or bare behind the name (V3.1)."""
    cursor.space()
    calls: list[ToolCall] = []
    while not calls or not (cursor.ends() or cursor.skip("<｜tool▁calls▁end｜>")):
        cursor.expect("<｜tool▁call▁begin｜>")
        name = cursor.until("<｜tool▁sep｜>").strip()
        body = cursor.until("<｜tool▁call▁end｜>")
        fenced = re.fullmatch(r"\s*(\S+)\s*```(?:json)?\s*(.*?)\s*```\s*", body, re.DOTALL)
        name, body = (fenced[1], fenced[2]) if fenced else (name, body)
        arguments = read_json(body)
        if not isinstance(arguments, dict):
            raise NoCallError
        calls.append(ToolCall(cursor.known(name), arguments))
        cursor.space()
    return tuple(calls)


def _kimi(cursor: Cursor) -> Calls:
    """Read a section of Kimi K2's calls. A call's id holds its name: ``functions.weather:0``."""
    cursor.space()
    calls: list[ToolCall] = []
    while not calls or not (cursor.ends() or cursor.skip("<|tool_calls_section_end|>")):
        cursor.expect("<|tool_call_begin|>")
        call_id = cursor.until("<|tool_call_argument_begin|>").strip()
        name = re.sub(r":\d+$", "", call_id).removeprefix("functions.")
        cursor.space()
        arguments = cursor.json_object()
        cursor.space()
        cursor.expect("<|tool_call_end|>")
        calls.append(ToolCall(cursor.known(name), arguments, call_id))
        cursor.space()
    return tuple(calls)


def _minimax(cursor: Cursor) -> Calls:
    """Read MiniMax M2's ``<invoke name="…">`` with ``<parameter name="…">value</parameter>``."""
    cursor.space()
    calls: list[ToolCall] = []
    while not calls or not (cursor.ends() or cursor.skip("</minimax:tool_call>")):
        cursor.expect('<invoke name="')
        name, arguments = cursor.known(cursor.until('">')), {}
        cursor.space()
        while cursor.skip('<parameter name="'):
            key = cursor.until('">')
            arguments[key] = value_of(cursor.until("</parameter>"))
            cursor.space()
        cursor.expect("</invoke>")
        calls.append(ToolCall(name, arguments))
        cursor.space()
    return tuple(calls)


_GEMMA_QUOTE = '<|"|>'
_GEMMA_PLAIN = re.compile(r"[^,}\]<]*")
_GEMMA_KEY = re.compile(r"[^:{}\[\],<]*")


def _gemma(cursor: Cursor) -> Calls:
    """Read Gemma 4's ``call:name{key:value,…}``, whose texts stand between ``<|"|>``."""
    cursor.expect("call:")
    name = cursor.name()
    cursor.expect("{")
    arguments = _gemma_mapping(cursor)
    if not cursor.ends():
        cursor.expect("<tool_call|>")
    return (ToolCall(name, arguments),)


def _gemma_mapping(cursor: Cursor, depth: int = 0) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if cursor.skip("}"):
        return values
    while True:
        key = cursor.until(_GEMMA_QUOTE) if cursor.skip(_GEMMA_QUOTE) else _gemma_word(cursor, _GEMMA_KEY)
        cursor.expect(":")
        values[key] = _gemma_value(cursor, depth + 1)
        if cursor.skip("}"):
            return values
        cursor.expect(",")


def _gemma_list(cursor: Cursor, depth: int) -> list[Any]:
    values: list[Any] = []
    if cursor.skip("]"):
        return values
    while True:
        values.append(_gemma_value(cursor, depth + 1))
        if cursor.skip("]"):
            return values
        cursor.expect(",")


def _gemma_value(cursor: Cursor, depth: int) -> Any:
    if depth > 100:
        raise NoCallError
    if cursor.skip(_GEMMA_QUOTE):
        return cursor.until(_GEMMA_QUOTE)
    if cursor.skip("{"):
        return _gemma_mapping(cursor, depth)
    if cursor.skip("["):
        return _gemma_list(cursor, depth)
    return read_json(_gemma_word(cursor, _GEMMA_PLAIN))


def _gemma_word(cursor: Cursor, pattern: re.Pattern[str]) -> str:
    match = pattern.match(cursor.text, cursor.at)
    assert match is not None
    if match.end() == len(cursor.text):
        raise cursor.unfinished()
    cursor.at = match.end()
    return match[0]


READERS: Mapping[str, Callable[[Cursor], Calls]] = {
    "<tool_call>": _tagged,
    "[TOOL_CALLS]": _mistral,
    "<|python_tag|>": _python_tag,
    "<｜tool▁calls▁begin｜>": _deepseek,
    "<|tool_calls_section_begin|>": _kimi,
    "<minimax:tool_call>": _minimax,
    "<|tool_call>": _gemma,
}
"""The reader of each syntax, by the marker that it starts behind."""

read_bare_json = _bare_json
