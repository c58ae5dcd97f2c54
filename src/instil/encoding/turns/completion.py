"""What the model must generate in one assistant turn: the rule behind every loss mask, on text alone.

Serving's prompt is known. The completion is found from three facts: where the message's own characters are in the
rendering that ends with it, how far that rendering agrees with the prompt, and where the stop token is. Serving's
prompt always wins: the completion is what follows it.

Why: each way in which prompt and rendering may differ has its own exact test (`_after_prompt` lists them in order). A
turn that passes none of them is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from instil.conversation import Message
from instil.encoding.turns.reasoning_block import closing_text, supplied_block
from instil.encoding.turns.rendering_pieces import after_prompt, common_length, joined, piece
from instil.encoding.turns.stop_tokens import Stop, StopTokens, next_text
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering, Source

RenderMessages: TypeAlias = Callable[[Sequence[Message], bool], Rendering]
_MARK = "a marked reasoning"
_QUESTION = Message("user", "a plain question")
_HEADER_FIELDS = ("name",)


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn whose completion is to be found.

    Attributes:
        messages: The messages up to and including the turn.
        prompt: Serving's prompt for it.
        upto: The rendering that ends with the turn, or the shortest longer one if the template refuses that.
        render: Renders other messages with the same tools and variables; with the generation prompt if the second
            argument is true.
        place: What errors start with.
        tags: Tags that may close a block: in the template's source or added tokens, but no stop token and no header.
    """

    messages: Sequence[Message]
    prompt: Rendering
    upto: Rendering
    render: RenderMessages
    place: str
    tags: Collection[str]

    @property
    def index(self) -> int:
        """The turn's message index."""
        return len(self.messages) - 1

    @property
    def message(self) -> Message:
        """The turn's message."""
        return self.messages[-1]

    def refused(self, found: str, remedy: str) -> EncodingError:
        """Return the error for a turn that cannot be decided.

        Args:
            found: What was found, without a full stop.
            remedy: What was expected and what to do, in sentences.
        """
        return EncodingError(f"{self.place}: message {self.index + 1}: {found}. {remedy}")


def find_completion(turn: Turn, stops: StopTokens) -> Rendering:
    """Return what the model must generate: from the end of serving's prompt to the stop token, inclusive.

    Raises:
        EncodingError: If it cannot be decided with certainty.
    """
    return _until_stop(turn, _after_prompt(turn), stops)


def own_spans(rendering: Rendering, index: int) -> list[tuple[int, int]]:
    """Return where a message's own characters stand, without its name in the header."""
    return [
        (start, end)
        for start, end, (owner, field), _ in rendering.runs
        if owner == index and field not in _HEADER_FIELDS
    ]


def _after_prompt(turn: Turn) -> Rendering:
    """Return what follows serving's prompt, to the end of the rendering."""
    if not own_spans(turn.upto, turn.index) and _has_text(turn.message):
        raise turn.refused(
            "the template does not print the assistant's text",
            "Expected its text in the rendering. Choose another template, or remove the row.",
        )
    if turn.message.tool_calls and not turn.upto.spans(turn.index, "tool_calls"):
        raise turn.refused(
            "the template does not print the tool calls of this turn",
            "Expected them in the rendering. Choose a template that takes tools, or remove the call.",
        )
    # The plain case: the rendering begins with the prompt.
    if turn.upto.text.startswith(turn.prompt.text):
        return piece(turn.upto, len(turn.prompt.text))
    # They differ. Compare them whole, and from the end of the last message's text on (history before it may be
    # rewritten): first exactly, then without white space, then with a block that only the prompt has.
    marked = None if turn.message.reasoning else _with_marked_reasoning(turn)
    whole, late = [(turn.prompt.text, turn.upto, marked)], _from_last_text(turn, marked)
    for match, views in ((_exactly, whole + late), (_except_space, whole + late), (_except_block, late or whole)):
        for prompt, upto, marked_upto in views:
            rest = match(turn, prompt, upto, marked_upto)
            if rest is not None:
                return rest
    # They differ before the last message's text too. Find the generation prompt itself.
    header = _generation_prompt(turn)
    for find in (_after_header, _after_its_own_header, _as_after_a_question):
        rest = find(turn, header) if header.strip() else None
        if rest is not None:
            return rest
    raise _disagreement(turn)


def _disagreement(turn: Turn) -> EncodingError:
    agreed = common_length(turn.prompt.text, turn.upto.text)
    remedy = "Set data.template_variables so that both agree, or give this message weight 0."
    if _named(turn.upto, turn.index, 0, len(turn.upto.text)):
        remedy = "Remove the name of this message, which history prints in its header, or give it weight 0."
    if turn.message.reasoning and turn.upto.spans(turn.index, "reasoning"):
        remedy = (
            "Set data.template_variables (enable_thinking: true) so that serving leaves room for its reasoning, or "
            "remove the reasoning."
        )
    return turn.refused(
        f"serving's prompt ends with {turn.prompt.text[agreed:][-60:]!r} where the template's rendering has "
        f"{turn.upto.text[agreed : agreed + 40]!r}",
        f"Expected the rendering to continue where the prompt ends. {remedy}",
    )


def _from_last_text(turn: Turn, marked: Rendering | None) -> list[tuple[str, Rendering, Rendering | None]]:
    """Return prompt and renderings from the end of the last message's text on: history before it may be rewritten."""
    if not turn.prompt.runs:
        return []
    _, end, source, offset = turn.prompt.runs[-1]
    last = (source, offset + end - turn.prompt.runs[-1][0])
    upto = _since(turn.upto, last, turn.index)
    if upto is None:
        return []
    return [(turn.prompt.text[end:], upto, marked and _since(marked, last, turn.index))]


def _since(rendering: Rendering, last: tuple[Source, int], index: int) -> Rendering | None:
    """Return a rendering from the end of a field's text on, if that stands before the turn."""
    last_end = None
    for start, end, source, offset in rendering.runs:
        if source[0] == index:
            break
        if (source, offset + end - start) == last:
            last_end = end
    return None if last_end is None else piece(rendering, last_end)


def _exactly(turn: Turn, prompt: str, upto: Rendering, marked: Rendering | None) -> Rendering | None:
    """Complete a turn whose rendering begins with the prompt, as it is or as if the turn had reasoning."""
    for rendering in (upto, marked):
        if prompt.strip() and rendering is not None and rendering.text.startswith(prompt):
            return piece(rendering, len(prompt))
    return None


def _except_space(turn: Turn, prompt: str, upto: Rendering, marked: Rendering | None) -> Rendering | None:
    """Complete a turn whose rendering begins with the prompt except for white space."""
    for rendering in (upto, marked):
        at = None if rendering is None else after_prompt(prompt, rendering.text)
        if at is None or rendering is None:
            continue
        own = own_spans(rendering, turn.index)
        if own and rendering.text[own[0][0] : at].strip():
            return None
        # History's header may contain the name of the speaker, which serving's prompt does not know.
        if own and _named(rendering, turn.index, at, own[0][0]):
            space = prompt[len(prompt.rstrip()) :]
            return piece(rendering, own[0][0]) if rendering.text[at : own[0][0]].endswith(space) else None
        return piece(rendering, min(at, own[0][0]) if own else at)
    return None


def _named(rendering: Rendering, index: int, start: int, end: int) -> bool:
    """Return whether a message's name stands within a range."""
    return any(
        owner == index and field in _HEADER_FIELDS and start <= at < end for at, _, (owner, field), _ in rendering.runs
    )


def _except_block(turn: Turn, prompt: str, upto: Rendering, marked: Rendering | None) -> Rendering | None:
    """Complete a turn whose prompt supplies a block (opened, or complete and empty) that the rendering lacks."""
    block_and_end = supplied_block(prompt, upto.text)
    if block_and_end is None:
        return None
    block, at = block_and_end
    own = own_spans(upto, turn.index)
    if own and own[0][0] < at:
        return None
    closing = closing_text(block, known=turn.tags)
    if closing is None:
        return None
    rest = _without_leading_space(piece(upto, at))
    if not closing:  # the block is complete: only the answer remains to be generated
        if turn.message.reasoning and turn.upto.spans(turn.index, "reasoning"):
            raise turn.refused(
                "serving's prompt closes the reasoning block, so this turn's reasoning cannot be generated",
                "Expected room for it. Set data.template_variables (enable_thinking: true), or remove the reasoning.",
            )
        return rest
    # The block is open. If history has no closing tag, the model generates reasoning (or none), the tag, and the
    # answer.
    if rest.text.startswith(closing.strip()):
        return piece(upto, at)
    reasoning = turn.message.reasoning or ""
    inside = Rendering(reasoning, ((0, len(reasoning), (turn.index, "reasoning"), 0),) if reasoning else ())
    return joined(inside, Rendering(closing), rest)


def _has_text(message: Message) -> bool:
    """Return whether a message has text or tool calls."""
    content = message.content
    if isinstance(content, str):
        return bool(content.strip()) or bool(message.tool_calls)
    return bool(content) or bool(message.tool_calls)


def _with_marked_reasoning(turn: Turn) -> Rendering | None:
    """Render the turn as if it had reasoning, and remove that again; None if the template prints no reasoning."""
    try:
        rendering = turn.render([*turn.messages[:-1], replace(turn.message, reasoning=_MARK)], False)
    except TemplateError:
        return None
    spans = rendering.spans(turn.index, "reasoning")
    if len(spans) != 1:
        return None
    start, end = spans[0]
    return joined(piece(rendering, 0, start), piece(rendering, end))


def _without_leading_space(rest: Rendering) -> Rendering:
    """Return a rendering without the white space that the template prints first."""
    limit = rest.runs[0][0] if rest.runs else len(rest.text)
    start = 0
    while start < limit and rest.text[start].isspace():
        start += 1
    return piece(rest, start)


def _generation_prompt(turn: Turn) -> str:
    """Return what the prompt adds to the rendering of the same messages; empty if it does not begin with that."""
    try:
        base = turn.render(turn.messages[:-1], False).text
    except TemplateError:
        return ""
    return turn.prompt.text.removeprefix(base) if turn.prompt.text.startswith(base) else ""


def _after_header(turn: Turn, header: str) -> Rendering | None:
    """Complete a turn by finding the generation prompt before the turn's own text, where history is rewritten."""
    own = own_spans(turn.upto, turn.index)
    if not own:
        return None
    first = own[0][0]
    at = turn.upto.text.rfind(header, 0, first)
    if at < 0:
        return None
    start = at + len(header)
    others = [run for run in turn.upto.runs if run[2][0] != turn.index and run[1] > at and run[0] < first]
    return None if others else piece(turn.upto, start)


def _after_its_own_header(turn: Turn, header: str) -> Rendering | None:
    """Complete a turn whose text follows the same header, if only the prompt prints more before it (a date, rules)."""
    own = own_spans(turn.upto, turn.index)
    start = len(turn.prompt.text) - len(header)
    if not own or not turn.upto.text.startswith(turn.prompt.text[:start]):
        return None
    lead = turn.upto.text[start : own[0][0]]
    return piece(turn.upto, own[0][0]) if lead.strip() and header.endswith(lead) else None


def _as_after_a_question(turn: Turn, header: str) -> Rendering | None:
    """Complete a turn that history prints without a header, after an answer or a tool result.

    It is completed as it would be after a question with the same generation prompt.
    """
    late = _from_last_text(turn, None)
    own = own_spans(turn.upto, turn.index)
    if not late or not own or turn.messages[-2].role not in ("assistant", "tool"):
        return None
    prompt, upto, _ = late[0]
    lead = upto.text[: own_spans(upto, turn.index)[0][0]].split()
    if lead and lead != prompt.removesuffix(header).split():
        return None
    messages = [_QUESTION, turn.message]
    try:
        after_question = replace(
            turn, messages=messages, prompt=turn.render(messages[:1], True), upto=turn.render(messages, False)
        )
        rest = _after_prompt(after_question) if after_question.prompt.text.endswith(header) else None
    except (EncodingError, TemplateError):
        return None
    if rest is None or not own_spans(rest, after_question.index):
        return None
    return joined(Rendering(rest.text[: own_spans(rest, after_question.index)[0][0]]), piece(turn.upto, own[0][0]))


def _until_stop(turn: Turn, rest: Rendering, stops: StopTokens) -> Rendering:
    """Return what follows the prompt up to the stop token, which is appended if the template prints none."""
    own = own_spans(rest, turn.index)
    end = own[-1][1] if own else 0
    foreign = next_text(rest, 0, turn.index)
    if foreign < end:
        raise turn.refused(
            f"the template prints another message's text ({rest.text[foreign : foreign + 30]!r}) inside this turn",
            "Expected nothing but the assistant's. Choose another template.",
        )
    early = _stop_before(rest.text[: own[0][0]] if own else "", stops)
    if early is not None:
        raise turn.refused(
            f"the model would have to generate {early!r}, which ends its turn, before this message's text",
            "Expected the stop token behind it. Join consecutive answers, or give this message weight 0.",
        )
    tail = rest.text[end:foreign]
    for token in dict.fromkeys((stops.eos, stops.for_turn(turn.message).text, *stops.texts)):
        at = tail.find(token) if token else -1
        if at >= 0 and token:
            return piece(rest, 0, end + at + len(token))
    if foreign < len(rest.text):
        raise turn.refused(
            "the template refuses a conversation that ends with this turn, and prints no stop token after it",
            "Expected one. End the conversation elsewhere.",
        )
    stop: Stop = stops.for_turn(turn.message)
    written = end + len(tail.rstrip())
    return joined(piece(rest, 0, written), Rendering(stop.gap + stop.text))


def _stop_before(lead: str, stops: StopTokens) -> str | None:
    """Return the stop token that the template prints before a turn's own text, behind serving's prompt."""
    return next((stop for stop in (*stops.texts, stops.eos) if stop and stop in lead), None)
