"""What the model must write in one assistant turn.

Serving's prompt is given; the completion is found from where the message's own characters are in the rendering that ends with it, how far
that rendering agrees with the prompt, and the stop token. Serving's prompt always wins: the completion is what makes it whole. Questionable
on purpose: each way in which prompt and rendering may differ has its own exact test, and what passes none of them is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from instil.conversation import Message
from instil.encoding.open_block import closing_text, supplied_block
from instil.encoding.stop_token import Stop, StopTokens, next_text
from instil.encoding.stretch import after_prompt, common_length, laid, piece
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering

RenderMessages: TypeAlias = Callable[[Sequence[Message]], Rendering]
_MARK = "a marked reasoning"
_HEADER_FIELDS = ("name",)


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn to be completed.

    Attributes:
        messages: The messages up to and including the turn.
        prompt: Serving's prompt for it.
        upto: The rendering that ends with the turn, or the shortest longer one where the template refuses that.
        render: Renders other messages with the same tools and variables.
        place: What errors start with.
        knows: Tells whether a text is one of the tokenizer's added tokens, or stands in the template's source.
    """

    messages: Sequence[Message]
    prompt: Rendering
    upto: Rendering
    render: RenderMessages
    place: str
    knows: Callable[[str], bool]

    @property
    def index(self) -> int:
        """The turn's message index."""
        return len(self.messages) - 1

    @property
    def message(self) -> Message:
        """The turn's message."""
        return self.messages[-1]

    def refused(self, found: str, remedy: str) -> EncodingError:
        """Make the error for a turn that cannot be decided."""
        return EncodingError(f"{self.place}: message {self.index + 1}: {found}; {remedy}")


def find_completion(turn: Turn, stops: StopTokens) -> Rendering:
    """Find what the model must write: from the end of serving's prompt to the stop token, inclusive.

    Raises:
        EncodingError: If it cannot be decided with certainty.
    """
    return _until_stop(turn, _after_prompt(turn), stops)


def own_spans(rendering: Rendering, index: int) -> list[tuple[int, int]]:
    """Give where a message's own characters stand, its name in the header left out."""
    return [
        (start, end)
        for start, end, (owner, field), _ in rendering.runs
        if owner == index and field not in _HEADER_FIELDS
    ]


def _after_prompt(turn: Turn) -> Rendering:
    """Give what follows serving's prompt, to the end of the rendering."""
    prompt, upto = turn.prompt.text, turn.upto
    own = own_spans(upto, turn.index)
    if not own and _says_something(turn.message):
        raise turn.refused(
            "the template does not print what the assistant said",
            "expected its text in the rendering; choose another template or give this message weight 0",
        )
    if upto.text.startswith(prompt):
        return piece(upto, len(prompt))
    marked = None if turn.message.reasoning else _with_marked_reasoning(turn)
    if marked is not None and marked.text.startswith(prompt):
        return piece(marked, len(prompt))
    first = own[0][0] if own else len(upto.text)
    for rendering in (upto, marked):
        if rendering is None:
            continue
        at = after_prompt(prompt, rendering.text)
        begins = own_spans(rendering, turn.index)
        if at is not None and (not begins or at <= begins[0][0] or not rendering.text[begins[0][0] : at].strip()):
            return piece(rendering, at if not begins else min(at, max(begins[0][0], 0)))
    agreed = min(common_length(prompt, upto.text), first)
    block = supplied_block(prompt, upto.text, agreed)
    if block is not None:
        return _inside_block(turn, block)
    rest = _after_generation_prompt(turn, first)
    if rest is not None:
        return rest
    raise turn.refused(
        f"serving's prompt ends with {prompt[agreed:][-60:]!r} where the template's rendering has "
        f"{upto.text[agreed : agreed + 40]!r}",
        "expected the rendering to go on where the prompt ends; set data.template_variables so that both agree",
    )


def _says_something(message: Message) -> bool:
    content = message.content
    if isinstance(content, str):
        return bool(content.strip()) or bool(message.tool_calls)
    return bool(content) or bool(message.tool_calls)


def _with_marked_reasoning(turn: Turn) -> Rendering | None:
    """Render the turn as if it had reasoning, and take that out again; None where the template prints none."""
    try:
        rendering = turn.render([*turn.messages[:-1], replace(turn.message, reasoning=_MARK)])
    except TemplateError:
        return None
    spans = rendering.spans(turn.index, "reasoning")
    if len(spans) != 1:
        return None
    start, end = spans[0]
    return laid(piece(rendering, 0, start), piece(rendering, end))


def _inside_block(turn: Turn, block: str) -> Rendering:
    """Complete a turn whose prompt supplies a block (opened, or whole and empty) that the rendering lacks."""
    rest = piece(turn.upto, len(turn.prompt.text) - len(block))
    closing = closing_text(block, knows=turn.knows)
    if closing is None:
        raise turn.refused(
            f"serving's prompt opens {block.strip()!r} and the template never shows how it is closed",
            "expected a rendering with reasoning; set data.template_variables (enable_thinking: false), or choose another template",
        )
    rest = _skipped(rest)
    if not closing:  # the block is whole: only the answer is left to write
        if turn.message.reasoning and turn.upto.spans(turn.index, "reasoning"):
            raise turn.refused(
                "serving's prompt closes the reasoning block, so this turn's reasoning cannot be written",
                "set data.template_variables (enable_thinking: true), or remove the reasoning",
            )
        return rest
    reasoning = turn.message.reasoning or ""
    inside = Rendering(reasoning, ((0, len(reasoning), (turn.index, "reasoning"), 0),) if reasoning else ())
    return laid(inside, Rendering(closing), rest)


def _skipped(rest: Rendering) -> Rendering:
    """Leave out the white space that the template prints first."""
    limit = rest.runs[0][0] if rest.runs else len(rest.text)
    start = 0
    while start < limit and rest.text[start].isspace():
        start += 1
    return piece(rest, start)


def _after_generation_prompt(turn: Turn, first: int) -> Rendering | None:
    """Where history is written anew, find the generation prompt itself before the turn's own text."""
    try:
        base = turn.render(turn.messages[:-1]).text
    except TemplateError:
        return None
    prompt = turn.prompt.text
    header = prompt[len(base) :] if prompt.startswith(base) else ""
    if not header.strip():
        return None
    at = turn.upto.text.rfind(header, 0, first)
    if at < 0:
        return None
    start = at + len(header)
    others = [run for run in turn.upto.runs if run[2][0] != turn.index and run[1] > at and run[0] < first]
    return None if others else piece(turn.upto, start)


def _until_stop(turn: Turn, rest: Rendering, stops: StopTokens) -> Rendering:
    """Cut what follows the prompt after the stop token, or append it where the template prints none."""
    own = own_spans(rest, turn.index)
    end = own[-1][1] if own else 0
    foreign = next_text(rest, 0, turn.index)
    if foreign < end:
        raise turn.refused(
            f"the template prints another message's text ({rest.text[foreign : foreign + 30]!r}) inside this turn",
            "expected nothing but the assistant's; choose another template",
        )
    tail = rest.text[end:foreign]
    for token in dict.fromkeys((stops.eos, stops.for_turn(turn.message).text, *stops.texts)):
        at = tail.find(token) if token else -1
        if at >= 0 and token:
            return piece(rest, 0, end + at + len(token))
    if foreign < len(rest.text):
        raise turn.refused(
            "the template refuses a conversation that ends with this turn, and prints no stop token after it",
            "expected one; end the conversation elsewhere",
        )
    stop: Stop = stops.for_turn(turn.message)
    written = end + len(tail.rstrip())
    return laid(piece(rest, 0, written), Rendering(stop.gap + stop.text))
