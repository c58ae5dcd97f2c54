"""A place in an answer that may still grow, and what can be read from there.

Why: a reader never looks past what it has read, so more text cannot change a result. It asks for more text instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from instil.conversation import EMPTY, ToolCall
from instil.conversation.strict_json import RefusedJson, parse_text

Calls: TypeAlias = tuple[ToolCall, ...]
NAME = re.compile(r"[\w.-]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]+|\\.)*')
_BRACKET_OR_QUOTE = re.compile(r'[{}\[\]"]')
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
        match = NAME.match(self.text, self.at)
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
