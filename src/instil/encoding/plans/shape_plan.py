"""One proof for every conversation of a shape: how its examples are put together, without rendering it.

The *shape* of a conversation is its roles, and which answers are not trained, as long as every message is plain text
without white space at its ends.
For each shape, the certain way (`encoder`) runs once on marked contents that record what the template asks about them
(`watched_string`). If the template only asked questions that are understood, its renderings are literal texts and
complete contents in turn, and any conversation that gives the same answers is rendered the same way.

Why: a plan is used only where this is shown with certainty. Everything else is encoded the certain way, and a test
compares both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from jinja2 import nodes

from instil.conversation import EMPTY, Conversation, Message
from instil.encoding.context import EncodingContext
from instil.encoding.encoder import TurnText, find_turns
from instil.encoding.grouping import group_by_extension
from instil.encoding.plans.watched_string import Log, RecordedQuestion, WatchedStr, can_be_watched
from instil.encoding.settings import EncodingReport
from instil.encoding.turns.rendering_pieces import joined
from instil.encoding.turns.rendering_pieces import piece as piece_of
from instil.errors import InstilError
from instil.template.tracing import Rendering

Shape: TypeAlias = tuple[str, ...]
"""The roles of a conversation's messages; `CONTEXT` is an assistant's message of weight 0."""
CONTEXT = "assistant, not trained"
Part: TypeAlias = str | int
"""A literal text, or the index of the message whose content stands there."""
_RARE = "ꙮ 𓀀 🈳 ½ \U0010fffd"
"""Characters that only a tokenizer which can write anything can write."""
_MARKS = "q{0} \"\\<&'>\né Zz {0}"
"""A marked content: a filter that goes unnoticed would change some of these characters."""
_LOST_MARK = "Zz"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Ids that are the same in every conversation of the shape, and whether the model must generate them."""

    ids: list[int]
    trained: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """The text between two added tokens, with at least one message's content in it.

    Attributes:
        parts: Literals and contents.
        first: Whether it begins the text.
        trained: Whether the model must generate it; if it has a boundary, only what is behind the boundary.
        head: Ids of the part before the boundary, if they are the same in every conversation.
        boundary: The part before the boundary, if it contains a content itself.
    """

    parts: tuple[Part, ...]
    first: bool
    trained: bool
    head: list[int] | None = None
    boundary: tuple[Part, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExamplePlan:
    """One example: what it consists of, in order, and the message indices of the turns trained in it."""

    layout: tuple[Fixed | Piece, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """How conversations of a shape become examples.

    Attributes:
        examples: The examples.
        questions: What the template asks about the contents; the plan holds for contents with the same answers.
        pieces: The examples' pieces, in order.
        messages: Indices of the messages that the examples print.
        developers: Number of developer messages that the template receives as system messages.
    """

    examples: tuple[ExamplePlan, ...]
    questions: tuple[RecordedQuestion, ...]
    pieces: tuple[Piece, ...]
    messages: frozenset[int]
    developers: int = 0

    def holds_for(self, contents: Sequence[str]) -> bool:
        """Return whether the template would treat these contents as it treated the marked ones."""
        return all(question.has_same_answer(contents[question.message]) for question in self.questions)


def shape_of(conversation: Conversation) -> Shape | None:
    """Return a conversation's shape; None if it is not of a kind that plans are made for."""
    if conversation.tools or conversation.plain:
        return None
    for message in conversation.messages:
        content = message.content
        # Anything but plain text needs the certain way: white space at the ends may be trimmed, a weight other than 0
        # changes the mask.
        if (
            not isinstance(content, str)
            or not content
            or content[0].isspace()
            or content[-1].isspace()
            or message.reasoning is not None
            or message.tool_calls
            or message.tool_call_id is not None
            or message.name is not None
            or (message.role == "assistant" and message.weight not in (None, 0.0))
            or message.part_weights
            or message.extra
        ):
            return None
    shape = tuple([CONTEXT if _is_context(message) else message.role for message in conversation.messages])
    # Of conversations with weights, those that train one answer have a shape: of others there are too many kinds.
    return None if CONTEXT in shape and shape.count("assistant") != 1 else shape


def _is_context(message: Message) -> bool:
    return message.role == "assistant" and message.weight == 0


def _message(role: str, text: str) -> Message:
    return Message("assistant", text, weight=0.0) if role == CONTEXT else Message(role, text)  # type: ignore[arg-type]


def plan_allowed(context: EncodingContext, tree: nodes.Template) -> bool:
    """Return whether plans can be made at all for a template (and its syntax tree), tokenizer and settings."""
    settings = context.settings
    if not context.pieces.in_pieces or settings.train_on != "assistant" or settings.history_rewritten != "every_turn":
        return False
    if context.unknown_id is not None and context.unknown_id in context.pieces.encode(_RARE):
        return False  # the tokenizer cannot write everything, so every answer has to be checked
    if context.template.prints_day and context.template.date is None:
        return False
    return can_be_watched(tree)


def make_plan(context: EncodingContext, shape: Shape) -> ShapePlan | None:
    """Return the plan of a shape; None if it is not certain."""
    plan_and_texts = make_plan_with_texts(context, shape)
    return None if plan_and_texts is None else plan_and_texts[0]


def make_plan_with_texts(
    context: EncodingContext, shape: Shape
) -> tuple[ShapePlan, tuple[Part, ...], tuple[Part, ...]] | None:
    """Return the plan of a shape, and the parts of its whole rendering and last prompt; None if it is not certain."""
    marked = [_MARKS.format(number) for number in range(len(shape))]
    variables = context.settings.template_variables or EMPTY
    messages = tuple(map(_message, shape, marked))
    conversation = Conversation(messages, variables=variables)
    log = Log()
    watched = tuple(
        replace(message, content=WatchedStr(text, message=number, log=log))
        for number, (message, text) in enumerate(zip(messages, marked, strict=True))
    )
    report = EncodingReport()
    try:
        texts = find_turns(context, conversation, report, train_on="assistant")
        # A conversation that the assistant begins has a turn that is not trained; it is left to the certain way.
        if shape[0] in ("assistant", CONTEXT) or not texts:
            return None
        if report.dropped_text or report.reasoning_ignored:  # what is lost must be listed for every conversation
            return None
        if not _renders_the_same(context, conversation, watched, texts) or log.opaque:
            return None
    except InstilError:
        return None
    examples = _plan_examples(context, texts, marked)
    if examples is None:
        return None
    pieces = tuple(item for example in examples for item in example.layout if isinstance(item, Piece))
    printed = frozenset(part for piece in pieces for part in piece.parts if isinstance(part, int))
    whole = parts_of(context.render_messages(conversation, messages), marked)
    prompt = parts_of(texts[-1].prompt, marked)
    if whole is None or prompt is None:
        return None
    developers = context.num_developers_as_system(conversation)
    return ShapePlan(tuple(examples), tuple(log.questions), pieces, printed, developers), whole, prompt


def _renders_the_same(
    context: EncodingContext, conversation: Conversation, watched: Sequence[Message], texts: Sequence[TurnText]
) -> bool:
    """Render everything that the certain way renders with watched contents.

    Returns:
        Whether each prompt is the same text, and each turn simply continues its prompt.
    """
    template, variables = context.template, conversation.variables
    template.render_text(watched, variables=variables)
    for turn in texts:
        prompt = template.render_text(watched[: turn.index], variables=variables, add_generation_prompt=True)
        up_to_turn = template.render_text(watched[: turn.index + 1], variables=variables)
        completion = turn.completion.text
        stop = next((stop for stop in context.stop_tokens if completion.endswith(stop)), "")
        continues = up_to_turn.startswith(prompt + completion) or (up_to_turn.startswith(prompt) and stop)
        if prompt != turn.prompt.text or not continues:
            return False
    return True


def _plan_examples(
    context: EncodingContext, texts: Sequence[TurnText], marked: Sequence[str]
) -> list[ExamplePlan] | None:
    """Put turns into examples by the extension property, on texts; ids follow when a plan is filled."""
    parts = [parts_of(rendering, marked) for turn in texts for rendering in (turn.prompt, turn.completion)]
    if any(part is None for part in parts):
        return None
    plans = [_plan_example(context, group, marked) for group in group_by_extension(texts, _is_extended)]
    return None if any(plan is None for plan in plans) else [plan for plan in plans if plan is not None]


def _is_extended(later: TurnText, earlier: TurnText) -> bool:
    """Return whether a later prompt begins with an earlier turn's texts and continues after them."""
    behind, prompt = earlier.prompt.text + earlier.completion.text, later.prompt.text
    return len(prompt) > len(behind) and prompt.startswith(behind)


def _plan_example(context: EncodingContext, turns: Sequence[TurnText], marked: Sequence[str]) -> ExamplePlan | None:
    """Plan the example of some turns; None if a token could straddle a place where training starts or stops."""
    rendering = joined(turns[-1].prompt, turns[-1].completion)
    starts = {len(turn.prompt.text) for turn in turns}
    stops = {len(turn.prompt.text) + len(turn.completion.text) for turn in turns}
    layout = _Layout(context, rendering, marked)
    position, trained = 0, False
    for text, token_id in context.pieces.split(rendering.text):
        end = position + len(text)
        starts_here = [at for at in starts if position <= at < end]
        if len(starts_here) > 1 or (trained and starts_here and token_id is None):
            return None
        if token_id is not None:
            # Training starts at the first character of a token, or not in it.
            if starts_here not in ([], [position]):
                return None
            trained = trained or bool(starts_here)
            layout.add_ids([token_id], trained=trained)
        else:
            boundary = starts_here[0] if starts_here else None
            if not layout.add_piece(position, end, boundary=boundary, trained=trained):
                return None
            trained = trained or boundary is not None
        position = end
        # Training stops at the end of a token: what the model generates last is the stop token.
        if position in stops:
            if token_id is None or not trained:
                return None
            trained = False
        elif any(position - len(text) < stop < position for stop in stops):
            return None
    return ExamplePlan(tuple(layout.items), tuple(turn.index for turn in turns))


class _Layout:
    """The items of one example's plan, as they are added."""

    def __init__(self, context: EncodingContext, rendering: Rendering, marked: Sequence[str]) -> None:
        self._pieces, self._rendering, self._marked = context.pieces, rendering, marked
        self.items: list[Fixed | Piece] = []

    def add_ids(self, ids: list[int], *, trained: bool) -> None:
        """Add ids that are the same in every conversation."""
        last = self.items[-1] if self.items else None
        if isinstance(last, Fixed) and last.trained == trained:
            self.items[-1] = Fixed([*last.ids, *ids], trained)
        elif ids:
            self.items.append(Fixed(ids, trained))

    def add_piece(self, start: int, end: int, *, boundary: int | None, trained: bool) -> bool:
        """Add the text ``start:end`` between two added tokens.

        Args:
            start: First character.
            end: Behind the last character.
            boundary: Where training starts in it, if it does.
            trained: Whether the text before it is trained.

        Returns:
            False if it cannot be planned.
        """
        parts = parts_of(piece_of(self._rendering, start, end), self._marked)
        # A literal whose end could grow into an added token with the content behind it must be checked each time.
        if parts is None or any(isinstance(part, str) and self._pieces.begins_at_end(part) for part in parts[:-1]):
            return False
        before = parts_of(piece_of(self._rendering, start, start if boundary is None else boundary), self._marked)
        if before is None:
            return False
        first, trained = start == 0, trained or boundary is not None
        before_varies = any(isinstance(part, int) for part in before)
        head = self._ids_of(before, first) if before and not before_varies else None
        if any(isinstance(part, int) for part in parts):
            self.items.append(Piece(parts, first, trained, head, before if before_varies else None))
            return True
        ids, num_before = self._ids_of(parts, first), len(head or [])
        if ids[:num_before] != (head or []):  # a token across the boundary
            return False
        self.add_ids(ids[:num_before], trained=False)
        self.add_ids(ids[num_before:], trained=trained)
        return True

    def _ids_of(self, literals: Sequence[Part], first: bool) -> list[int]:
        return list(self._pieces.ids_of(fill(literals, ()), first=first))


def parts_of(rendering: Rendering, marked: Sequence[str]) -> tuple[Part, ...] | None:
    """Return a rendering as literals and complete contents; None if a content is printed in any other way.

    Example:
        >>> parts_of(Rendering("<hi>", ((1, 3, (0, "content"), 0),)), ["hi"])
        ('<', 0, '>')
    """
    parts: list[Part] = []
    at = 0
    for start, end, (message, field), offset in rendering.runs:
        if field != "content" or offset or message < 0 or rendering.text[start:end] != marked[message]:
            return None
        if start > at:
            parts.append(rendering.text[at:start])
        parts.append(message)
        at = end
    if at < len(rendering.text):
        parts.append(rendering.text[at:])
    if any(isinstance(part, str) and _LOST_MARK in part for part in parts):
        return None  # a content that lost its origin
    return tuple(parts)


def fill(parts: Sequence[Part], contents: Sequence[str]) -> str:
    """Return literals and contents end to end."""
    return "".join([part if isinstance(part, str) else contents[part] for part in parts])
