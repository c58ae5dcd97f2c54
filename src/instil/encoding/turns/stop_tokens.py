"""What ends an assistant turn when the model is served.

Short probe conversations are rendered, and what the template prints after the assistant's text decides, in this order:

1. the tokenizer's eos, if it is printed there;
2. the control token that is printed there (Gemma's ``<end_of_turn>``; ``</turn>`` only if serving's prompt opened it);
3. the control token that opens the next turn (GLM's ``<|user|>``);
4. eos, appended to what the model must generate, if the template prints none.

Why: an answer and a tool call may end differently (gpt-oss ends calls with ``<|call|>``), so both are probed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from instil.conversation import Message, ToolCall
from instil.encoding.control_tokens import ControlTokens, Occurrence
from instil.encoding.turns.reasoning_block import TAG, is_closing
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering

Way: TypeAlias = Literal["printed", "opens_next_turn", "appended"]

PROBE_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "find_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Which city"}},
            "required": ["city"],
        },
    },
}
ASK, SAY = Message("user", "a plain question"), Message("assistant", "a plain answer")
ASK_AGAIN = Message("user", "another question")
CALL = Message("assistant", "", tool_calls=(ToolCall("find_weather", {"city": "Hanoi"}, "abcdef123"),))
RESULT = Message("tool", "warm and sunny", tool_call_id="abcdef123", name="find_weather")


class Render(Protocol):
    """Renders messages with tools; raises TemplateError if the template refuses them."""

    def __call__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
    ) -> Rendering:
        """Render, optionally with what makes the model start its turn."""
        ...


@dataclass(frozen=True, slots=True)
class Stop:
    """How a turn ends.

    Attributes:
        text: The stop token's text.
        way: Whether the template prints it after the turn, at the head of the next turn, or never.
        gap: White space that the template prints between the turn and a stop token of the next turn.
    """

    text: str
    way: Way
    gap: str = ""


@dataclass(frozen=True, slots=True)
class StopTokens:
    """How answers and tool calls end.

    Attributes:
        answer: What ends an answer.
        call: What ends a turn that calls a tool.
        eos: The tokenizer's end-of-text token, if it has one.
    """

    answer: Stop
    call: Stop
    eos: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """The stop tokens, the answer's first, each once."""
        return tuple(dict.fromkeys((self.answer.text, self.call.text)))

    def for_turn(self, message: Message) -> Stop:
        """Return what ends a message of the assistant."""
        return self.call if message.tool_calls else self.answer


def find_stop_tokens(render: Render, controls: ControlTokens, *, eos: str | None, bos: str | None) -> StopTokens:
    """Return what ends an assistant turn.

    Args:
        render: Renders messages with tools; raises TemplateError if the template refuses them.
        controls: The tokenizer's added tokens.
        eos: Text of the tokenizer's eos token.
        bos: Text of its bos token, which ends nothing unless it is the eos token too.

    Raises:
        EncodingError: If the template prints no control token after a turn and the tokenizer has no eos token.
    """
    probes = _Probes(render, controls, eos, bos)
    answer = probes.answer()
    return StopTokens(answer, probes.call(answer), eos)


def printed_within_turns(render: Render, stops: StopTokens) -> str:
    """Return what a template prints within assistant turns: from the prompt's end to what ends the turn.

    Args:
        render: Renders messages with tools.
        stops: How answers and calls end.
    """
    thought = Message("assistant", "a plain answer", reasoning="a plain thought")
    texts = []
    for message, tools in ((SAY, ()), (thought, ()), (CALL, (PROBE_TOOL,)), (CALL, ())):
        try:
            prompt = render([ASK], tools, add_generation_prompt=True).text
            text = render([ASK, message], tools).text
        except TemplateError:
            continue
        start = next((index for index, pair in enumerate(zip(prompt, text, strict=False)) if len(set(pair)) > 1), None)
        turn = text[min(len(prompt), len(text)) if start is None else start :]
        texts.append(turn[: max(0, turn.rfind(stops.for_turn(message).text))] or turn)
    return "\0".join(texts)


class _Probes:
    """Probe conversations, and the stop tokens that their renderings show."""

    def __init__(self, render: Render, controls: ControlTokens, eos: str | None, bos: str | None) -> None:
        self._render, self._controls, self._eos = render, controls, eos
        self._bos = bos if bos != eos else None

    def answer(self) -> Stop:
        """Return what ends an answer."""
        tail = self._after([ASK, SAY], 1)
        following = self._after([ASK, SAY, ASK_AGAIN], 1)
        printed = self._printed(tail or "") or self._closing_the_header(tail or "")
        if printed is not None:
            return Stop(printed, "printed")
        opener = self._opening(following or "")
        if opener is not None and opener.text not in self._own_header():
            return opener
        if self._eos is None:
            raise EncodingError(
                "chat template: it prints no control token after an assistant turn, and the tokenizer has no eos "
                "token. Expected one of them, because something must end an answer. Set the tokenizer's eos_token."
            )
        return Stop(self._eos, "appended")

    def _own_header(self) -> str:
        """Return the header that the model itself must generate, if the template has no generation prompt."""
        try:
            question, answered = self._render([ASK]).text.rstrip(), self._render([ASK, SAY])
            prompt = self._render([ASK], add_generation_prompt=True).text
        except TemplateError:
            return ""
        own = answered.spans(1)
        if prompt.rstrip() != question or not own or not answered.text.startswith(question):
            return ""
        return answered.text[len(question) : own[0][0]]

    def call(self, answer: Stop) -> Stop:
        """Return what ends a turn that calls a tool."""
        headers = set(self._openings([ASK, SAY]))
        for tools in ((PROBE_TOOL,), ()):
            tail = self._after([ASK, CALL], 1, tools, fields="tool_calls")
            if tail is None:  # the template does not print calls so
                continue
            if answer.text in tail:
                return Stop(answer.text, "printed")
            opened = [tag for tag in self._openings([ASK, CALL], tools) if tag not in headers]
            printed = self._printed(tail, opened, self._inside(tools))
            if printed is not None:
                return Stop(printed, "printed")
            following = self._after([ASK, CALL, RESULT, SAY], 1, tools, fields="tool_calls")
            if answer.way == "opens_next_turn" and answer.text != self._eos:
                return self._opening(following or "", after=tail) or answer
            return Stop(answer.text, "appended", answer.gap)
        return answer

    def _after(
        self,
        messages: Sequence[Message],
        at: int,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        fields: str | None = None,
    ) -> str | None:
        """Return what the template prints after a message, up to the next message's text; None if it refuses."""
        try:
            rendering = self._render(messages, tools)
        except TemplateError:
            return None
        spans = rendering.spans(at, fields)
        if not spans:
            return None
        return rendering.text[spans[-1][1] : next_text(rendering, spans[-1][1], at)]

    def _openings(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[str]:
        """Return the tags that the template prints between the question and the end of the turn behind it."""
        try:
            rendering = self._render(messages, tools)
        except TemplateError:
            return []
        question, own = rendering.spans(0), rendering.spans(1)
        return TAG.findall(rendering.text[question[-1][1] : own[-1][1]]) if question and own else []

    def _inside(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return a call from its first own character to its last; a token in it (a quotation mark) ends nothing."""
        rendering = self._render([ASK, CALL], tools)
        own = rendering.spans(1, "tool_calls")
        return rendering.text[own[0][0] : own[-1][1]]

    def _printed(self, tail: str, opened: Sequence[str] = (), inside: str = "") -> str | None:
        """Return the stop token in what follows a last turn; not one that closes an opened tag, or stands inside."""
        candidates = [
            token
            for token in self._controls.find(tail)
            if token.text != self._bos
            and not _closes(token.text, self._eos)
            and token.text not in inside
            and not any(is_closing(tag, token.text) for tag in opened)
        ]
        if not candidates:
            return None
        if any(token.text == self._eos for token in candidates):
            return self._eos
        return _first_group(candidates)[-1].text

    def _closing_the_header(self, tail: str) -> str | None:
        """Return the tag behind an answer that closes what serving's prompt opened: a turn, not a block within it."""
        closing = [token.text for token in self._controls.find(tail) if _closes(token.text, self._eos)]
        try:
            prompt, answered = self._render([ASK], add_generation_prompt=True), self._render([ASK, SAY])
        except TemplateError:
            return None
        question, own = prompt.spans(0), answered.spans(1)
        if not question or not own or not answered.text.startswith(prompt.text):
            return None
        header, generated = prompt.text[question[-1][1] :], answered.text[len(prompt.text) : own[0][0]]
        return next((tag for tag in closing if _opened(tag, header) and not _opened(tag, generated)), None)

    def _opening(self, following: str, *, after: str = "") -> Stop | None:
        """Return the control token that directly follows a turn when another turn comes."""
        following = following[len(after.rstrip()) :] if following.startswith(after.rstrip()) else following
        token = next(self._controls.find(following), None)
        if token is None:
            return None
        gap = following[: token.start]
        if gap.strip() or token.text == self._bos or _closes(token.text, self._eos):
            return None
        return Stop(token.text, "opens_next_turn", gap)


def _closes(text: str, eos: str | None) -> bool:
    """Return whether a token closes a block within a turn (``</tool_call>``), not the turn."""
    return text.startswith("</") and text != eos


def _opened(closing: str, text: str) -> bool:
    """Return whether a text opens what ``</name>`` closes, with or without attributes."""
    return re.search(f"<{re.escape(closing[2:-1])}[\\s>]", text) is not None


def _first_group(tokens: Sequence[Occurrence]) -> list[Occurrence]:
    """Return the first token and those that follow it without a gap."""
    group = [tokens[0]]
    for token in tokens[1:]:
        if token.start != group[-1].end:
            break
        group.append(token)
    return group


def next_text(rendering: Rendering, start: int, owner: int) -> int:
    """Return where the text of another message than `owner` begins after `start`; the rendering's length if none."""
    return next((a for a, _, source, _ in rendering.runs if a >= start and source[0] != owner), len(rendering.text))
