"""The syntaxes in which models write tool calls, each read from the left.

A reader starts behind the marker of its syntax. It returns the calls, reports that the text is no call, or reports
that it needs more text.

Source: the chat templates of the models that each function names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from instil.conversation import ToolCall
from instil.encoding.turns.call_cursor import NAME, Calls, Cursor, NoCallError, read_json, value_of


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
        match = NAME.match(cursor.text, cursor.at)
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
