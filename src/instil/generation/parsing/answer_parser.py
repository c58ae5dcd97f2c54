"""Parse an answer into reasoning, content and tool calls while it grows.

There is one parser. A streamed answer feeds it piece by piece, and a complete answer in one piece (`complete`). So the
pieces of a stream add up to the complete answer. What does not parse stays text, so a malformed answer is never lost.

Why: the syntax is recognised in the answer, because models do not declare which one they use.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from instil.conversation import ToolCall
from instil.encoding.turns.call_cursor import Calls, Cursor, MoreTextNeededError, NoCallError, read_json
from instil.encoding.turns.call_syntax import READERS, read_bare_json
from instil.encoding.turns.inline_reasoning import CLOSING_TAGS, OPENING_TAGS, REASONING_TAGS

MARKUP: tuple[str, ...] = (
    *OPENING_TAGS, *CLOSING_TAGS, *READERS,
    "<|channel>", "</tool_call>", "<tools>", "</tools>", "[ARGS]", "[CALL_ID]",
    "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
    "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</minimax:tool_call>",
    "<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>", "<|call|>", "<tool_call|>", '<|"|>',
)  # fmt: skip
"""Tokens that carry structure. They stay in an answer's text until it is parsed."""

_CALL_MARKER = re.compile("|".join(map(re.escape, READERS)))
_CLOSERS = frozenset("}]>")
_HEADER_STARTS = ("<|channel|>", "<|start|>assistant", "to=functions.")
_HEADER = re.compile(
    r"\s*(?:<\|start\|>assistant)?(?:\s*to=functions\.(?P<early>[\w.-]+)\s*)?<\|channel\|>(?P<channel>\w+)"
    r"(?:\s*to=functions\.(?P<name>[\w.-]+))?[^<]*(?:<\|constrain\|>\w+)?\s*<\|message\|>"
)
_HEADER_LIMIT = 300
"""Longest header of a gpt-oss message in characters."""
_BODY_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")


@dataclass(frozen=True, slots=True)
class Delta:
    """What a piece of an answer adds: reasoning, content, or one call."""

    reasoning: str = ""
    content: str = ""
    call: ToolCall | None = None


class AnswerParser:
    r"""Parses one answer while it grows.

    Args:
        in_reasoning: Whether the prompt had already opened a reasoning block.
        tools: Names of the tools that the request has; a call of another name stays text. None allows every name.
        bare_json: Whether an answer that is JSON without any marker may be a call.

    Example:
        >>> parser = AnswerParser(tools=["time"])
        >>> parser.push("<think>hm</think>\n\nNow: <tool"), parser.push('_call>{"name": "time"}')
        ([Delta(reasoning='hm', content='', call=None), Delta(reasoning='', content='Now:', call=None)], [])
        >>> [delta.call.name for delta in parser.push("</tool_call>")]
        ['time']
    """

    def __init__(
        self, *, in_reasoning: bool = False, tools: Collection[str] | None = None, bare_json: bool = True
    ) -> None:
        self._tools = None if tools is None else frozenset(tools)
        self._reads_bare_json = bare_json and self._tools != frozenset()
        self._text = ""  # not yet decided
        self._space = ""  # white space that is content only if content follows
        self._num_read = self._num_begun = 0  # characters pushed; how many of them `begin` added
        self._begun_space = 0  # how much of the white space `begin` added
        self._closings: tuple[str, ...] = ()
        self._channel, self._recipient = "", ""
        self._has_reasoning = self._has_content = self._has_calls = False
        self._waits_for_closer = False
        self._step = self._begin_reasoning if in_reasoning else self._begin
        self._deltas: list[Delta] = []

    def begin(self, begun: str) -> None:
        """Read the beginning of the answer, which the prompt already has. It is not returned.

        So the deltas that follow hold the continuation alone. A call that ends in it is returned complete, and a call
        that ends before it is not returned.
        """
        self._num_begun = len(begun)
        self.push(begun)

    def push(self, piece: str) -> list[Delta]:
        """Add a piece; return what is now certain."""
        self._text += piece
        self._num_read += len(piece)
        # A held call is long, and only a closing character can decide it.
        if self._waits_for_closer and len(self._text) > 128 and _CLOSERS.isdisjoint(piece):
            return []
        return self._advance(final=False)

    def finish(self) -> list[Delta]:
        """Return what was held back. The answer is complete."""
        deltas = self._advance(final=True)
        space = self._space[self._begun_space :]
        if space and not self._has_calls:
            deltas.append(Delta(content=space))
        return deltas

    def _advance(self, *, final: bool) -> list[Delta]:
        self._deltas, self._waits_for_closer = [], False
        while self._step(final):
            pass
        return self._deltas

    # Each step decides on the beginning of the undecided text. It returns False when it needs more text.

    def _begin(self, final: bool) -> bool:
        """Decide whether the answer begins with reasoning, with a channel, or with content."""
        text = self._text.lstrip()
        if not final and _may_become(text, (*OPENING_TAGS, *_HEADER_STARTS)):
            return False
        for opening, closing in REASONING_TAGS:
            if text.startswith(opening):
                self._text, self._closings, self._step = text[len(opening) :], (closing,), self._skip_newlines
                return True
        self._step = self._header if text.startswith(_HEADER_STARTS) else self._begin_content
        return True

    def _begin_reasoning(self, final: bool) -> bool:
        """Begin inside a block that the prompt opened; the model may open it once more."""
        text = self._text.lstrip()
        if not final and _may_become(text, OPENING_TAGS):
            return False
        # Only the answer is known here: the first closing tag of any pair ends the block.
        self._text, self._closings = text, CLOSING_TAGS
        for opening, closing in REASONING_TAGS:
            if text.startswith(opening):
                self._text, self._closings = text[len(opening) :], (closing,)
        self._step = self._skip_newlines
        return True

    def _skip_newlines(self, final: bool) -> bool:
        """Skip the line breaks in front of reasoning, or behind it."""
        self._text = self._text.lstrip("\n")
        if not self._text:
            return False
        self._step = self._reasoning if self._closings else self._begin_content
        return True

    def _reasoning(self, final: bool) -> bool:
        ends = [(self._text.index(tag), tag) for tag in self._closings if tag in self._text]
        if ends:
            end, tag = min(ends)
            self._think(self._text[:end].rstrip("\n"))
            self._text, self._closings, self._step = self._text[end + len(tag) :], (), self._skip_newlines
            return True
        certain = self._text if final else self._text[: len(self._text) - _undecided(self._text, self._closings)]
        certain = certain.rstrip("\n")
        self._think(certain)
        self._text = "" if final else self._text[len(certain) :]
        return False

    def _begin_content(self, final: bool) -> bool:
        """Decide whether the content is one JSON call."""
        text = self._text.lstrip()
        if not text and not final:
            return False
        self._step = self._content
        if text.startswith("{") and self._reads_bare_json:
            found = self._read_calls(len(self._text) - len(text), read_bare_json, final=final)
            if found is None:
                self._step = self._begin_content
                return False
            if found:
                return True
            # It is text: its braces are not looked at again.
            end = len(self._text) - len(text) + 1
            self._say(self._text[:end])
            self._text = self._text[end:]
        return True

    def _content(self, final: bool) -> bool:
        """Pass text on up to the next call."""
        if self._tools == frozenset():
            self._say(self._text)
            self._text = ""
            return False
        marker = _CALL_MARKER.search(self._text)
        if marker is None:
            certain = len(self._text) - (0 if final else _undecided(self._text, READERS))
            self._say(self._text[:certain])
            self._text = self._text[certain:]
            return False
        self._say(self._text[: marker.start()])
        self._text = self._text[marker.start() :]
        found = self._read_calls(len(marker[0]), READERS[marker[0]], final=final)
        if found is None:
            return False
        if not found:
            self._say(marker[0])
            self._text = self._text[len(marker[0]) :]
        return True

    def _read_calls(self, start: int, read: Any, *, final: bool) -> bool | None:
        """Read calls at the beginning of the text; return whether there are any, or None if more text is needed."""
        cursor = Cursor(self._text, start, tools=self._tools, final=final)
        try:
            calls: Calls = read(cursor)
        except NoCallError:
            return False
        except MoreTextNeededError:
            self._waits_for_closer = True
            return None
        self._text = self._text[cursor.at :]
        for call in calls:
            self._call(call)
        return True

    # gpt-oss: <|channel|>analysis<|message|>…<|end|>, final, commentary to=functions.x

    def _header(self, final: bool) -> bool:
        """Read the header of a message; text without one is content."""
        text = self._text.lstrip()
        if not final and _may_become(text, _HEADER_STARTS):
            return False
        end = text.find("<|message|>", 0, _HEADER_LIMIT)
        if text.startswith(_HEADER_STARTS) and end < 0 and not final and len(text) < _HEADER_LIMIT:
            return False
        match = _HEADER.match(text)
        if match is None or match.end() > _HEADER_LIMIT:
            self._step = self._content
            return True
        self._text = text[match.end() :]
        # The recipient stands behind the channel, or in front of it where the header names it first.
        self._channel, self._recipient = match["channel"], match["name"] or match["early"] or ""
        if self._channel == "analysis" and self._has_reasoning:
            self._think("\n")
        self._step = self._body
        return True

    def _body(self, final: bool) -> bool:
        """Pass the body of a message on; the body of a call is read when it is complete."""
        ends = [(self._text.index(tag), tag) for tag in _BODY_ENDS if tag in self._text]
        if not ends and self._recipient and not final:
            return False
        end, tag = min(ends) if ends else (len(self._text), "")
        if not ends and not final:
            end -= _undecided(self._text, _BODY_ENDS)
        self._message(self._text[:end])
        # <|start|> begins the next message and belongs to it.
        self._text = self._text[end + (0 if tag == "<|start|>" else len(tag)) :]
        if not ends:
            return False
        self._step = self._header
        return True

    def _message(self, body: str) -> None:
        if self._recipient and (call := self._channel_call(body)) is not None:
            self._call(call)
        elif self._channel == "analysis":
            self._think(body)
        else:
            self._say(body)

    def _channel_call(self, body: str) -> ToolCall | None:
        if self._tools is not None and self._recipient not in self._tools:
            return None
        try:
            arguments = read_json(body)
        except NoCallError:
            return None
        return ToolCall(self._recipient, arguments) if isinstance(arguments, dict) else None

    def _think(self, text: str) -> None:
        if text:
            self._has_reasoning = True
        if new := text[self._begun_part(text) :]:
            self._deltas.append(Delta(reasoning=new))

    def _say(self, text: str) -> None:
        begun = self._begun_space + self._begun_part(text)
        text = self._space + text
        said = text.rstrip()
        self._space, self._begun_space = text[len(said) :], max(begun - len(said), 0)
        if self._has_calls and not self._has_content:
            begun -= len(said) - len(said.lstrip())
            said = said.lstrip()
        if said:
            self._has_content = True
        if new := said[max(begun, 0) :]:
            self._deltas.append(Delta(content=new))

    def _begun_part(self, text: str) -> int:
        """Return how many characters of a text at the beginning of the undecided text were added by `begin`."""
        start = self._num_read - len(self._text)
        return min(max(self._num_begun - start, 0), len(text))

    def _call(self, call: ToolCall) -> None:
        self._has_calls = True
        self._deltas.append(Delta(call=call))


def _may_become(text: str, words: Iterable[str]) -> bool:
    """Return True if a text is the beginning of a word, or empty."""
    return any(len(text) < len(word) and word.startswith(text) for word in words)


def _undecided(text: str, words: Iterable[str]) -> int:
    """Return how many characters at the end of a text may become one of the words.

    Example:
        >>> _undecided("see <tool", ["<tool_call>"]), _undecided("see", ["<tool_call>"])
        (5, 0)
    """
    return max((n for word in words for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
