"""Tool definitions and calls in a text that is already rendered, read into the records that a template prints.

Only proposals are made here. `ReadableTemplate.read` renders each, and takes the one that gives the text again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from instil.conversation import Message, ToolCall
from instil.conversation.message_parts import read_tools
from instil.data.side_columns import holds_tools
from instil.encoding.turns.call_cursor import Calls, Cursor, MoreTextNeededError, NoCallError
from instil.encoding.turns.call_syntax import READERS, read_bare_json
from instil.template.read_back import Messages

_OBJECT = re.compile(r'\{\s*"(?:type|name|function)"')
_CALL_MARKER = re.compile("|".join(map(re.escape, READERS)))
_BETWEEN = re.compile(r"[\s,]*")
_TRIMS: tuple[Callable[[str], str], ...] = (lambda text: text, lambda text: text.removesuffix("\n"), str.rstrip)


def definitions_in(text: str) -> tuple[Mapping[str, Any], ...]:
    r"""Return the tool definitions that a rendered text shows: the first JSON objects that are some.

    Example:
        >>> definitions_in('<tools>\n{"type": "function", "function": {"name": "look"}}\n</tools>')[0]["function"]
        {'name': 'look'}
    """
    found: list[Any] = []
    at = -1
    for match in _OBJECT.finditer(text):
        # Definitions stand together; a call further on may look like one.
        if found and match.start() >= at and not _BETWEEN.fullmatch(text, at, match.start()):
            break
        if match.start() < at:
            continue
        try:
            value, end = json.JSONDecoder().raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if holds_tools([value]) and _describes(value):
            found.append(value)
            at = end
    return read_tools(found, where="the text")


def _describes(value: Mapping[str, Any]) -> bool:
    function = value.get("function", value)
    return "function" in value or "parameters" in function or "description" in function


def call_reader(tools: Sequence[Mapping[str, Any]]) -> Callable[[Messages], Iterator[Messages]]:
    """Return what proposes messages with calls in place of messages of text.

    Args:
        tools: The tool definitions; without any, an answer that is only JSON is text.
    """
    names = frozenset(str(tool.get("function", tool).get("name")) for tool in tools)

    def propose(messages: Messages) -> Iterator[Messages]:
        proposed: list[Messages] = []
        for trim in _TRIMS:
            for unquote in (False, True):
                parsed = tuple(_parsed(message, names, trim, unquote=unquote) for message in messages)
                if parsed not in proposed:
                    proposed.append(parsed)
                    yield parsed

    return propose


def _parsed(message: Message, tools: Collection[str], trim: Callable[[str], str], *, unquote: bool) -> Message:
    text = str(message.content)
    if message.role == "tool" and unquote:
        return replace(message, content=_unquoted(text))
    if message.role != "assistant":
        return message
    start, calls = _calls_at_the_end(text, tools)
    return replace(message, content=trim(text[:start]) or None, tool_calls=calls) if calls else message


def _unquoted(text: str) -> str:
    """Return the text of a result that is printed as a JSON string, without its quotes."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _calls_at_the_end(text: str, tools: Collection[str]) -> tuple[int, Calls]:
    """Return the calls that a text ends with, and where they begin."""
    marker = _CALL_MARKER.search(text)
    try:
        if marker is not None:
            return marker.start(), _calls_from(text, marker.start())
        if tools and text.startswith("{"):
            return 0, read_bare_json(Cursor(text, 0, tools=tools, final=True))
    except (NoCallError, MoreTextNeededError):
        pass  # text that only mentions calls
    return len(text), ()


def _calls_from(text: str, at: int) -> Calls:
    calls: list[ToolCall] = []
    while at < len(text):
        marker = _CALL_MARKER.match(text, at)
        if marker is None:
            raise NoCallError
        cursor = Cursor(text, marker.end(), tools=None, final=True)
        calls += READERS[marker[0]](cursor)
        cursor.space()
        at = cursor.at
    return tuple(calls)
