"""One proof for every conversation of a shape: how its examples are put together, without rendering it.

The *shape* of a conversation is its roles, as long as every message is plain text without white space at its ends. For a shape, the slow way
(`encoder`) is gone once with marked contents that note what the template asks about them (`watched_text`). If only understood questions were asked, the
renderings are literal texts and whole contents in turn, and any conversation that gives the same answers has the same ones. Questionable on purpose: what this
cannot show with certainty goes the slow way; a test holds both ways against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from jinja2 import nodes

from instil.conversation import EMPTY, Conversation, Message
from instil.encoding.plans.watched_string import Asked, Log, WatchedStr, can_be_watched
from instil.encoding.settings import EncodingReport
from instil.errors import InstilError
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.encoding.encoder import TurnText

Shape: TypeAlias = tuple[str, ...]
Part: TypeAlias = str | int
"""A literal text, or the index of the message whose content stands there."""
_RARE = "ꙮ 𓀀 🈳 ½ \U0010fffd"
"""What a tokenizer cannot write unless it can write anything."""
_MARKS = "q{0} \"\\<&'>\né Zz {0}"  # whatever an undetected filter would change, it would change here


@dataclass(frozen=True, slots=True)
class Fixed:
    """Ids that are the same in every conversation of the shape, and whether they are trained."""

    ids: list[int]
    trained: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """What lies between two added tokens and holds a content.

    Attributes:
        parts: Literals and contents.
        first: Whether it begins the text.
        trained: Whether it is trained; with a boundary, only what is behind that.
        head: Ids of the part before the boundary, where that is the same in every conversation.
        boundary: The part before the boundary, where it holds a content itself.
    """

    parts: tuple[Part, ...]
    first: bool
    trained: bool
    head: list[int] | None = None
    boundary: tuple[Part, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExamplePlan:
    """One example: what it is put together of, and the turns trained in it."""

    layout: tuple[Fixed | Piece, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShapePlan:
    """How conversations of a shape become examples.

    Attributes:
        examples: The examples.
        asked: What the template asks about the contents; the plan holds for those with the same answers.
        pieces: The examples' pieces, in order.
        messages: Indices of the messages that the examples print.
    """

    examples: tuple[ExamplePlan, ...]
    asked: tuple[Asked, ...]
    pieces: tuple[Piece, ...]
    messages: frozenset[int]

    def holds_for(self, contents: Sequence[str]) -> bool:
        """Tell whether the template would treat these contents as it treated the marked ones."""
        return all(asked.same_for(contents[asked.message]) for asked in self.asked)


def shape_of(conversation: Conversation) -> Shape | None:
    """Give a conversation's shape; None where it is none that plans are made for."""
    if conversation.tools or conversation.plain:
        return None
    for message in conversation.messages:
        content = message.content
        if (
            not isinstance(content, str)
            or not content
            or content[0].isspace()
            or content[-1].isspace()
            or message.reasoning is not None
            or message.tool_calls
            or message.tool_call_id is not None
            or message.name is not None
            or message.weight is not None
            or message.extra
        ):
            return None
    return tuple(message.role for message in conversation.messages)


def plan_allowed(chat: ChatTokenizer, tree: nodes.Template) -> bool:
    """Tell whether plans can be made at all for a template (and its syntax tree), tokenizer and settings."""
    settings = chat.settings
    if not chat.tokens.in_pieces or settings.train_on != "assistant" or settings.history_rewritten != "every_turn":
        return False
    if chat.unknown_id is not None and chat.unknown_id in chat.tokens.encode(_RARE):
        return False  # each answer must be looked at
    if chat.template.prints_day and chat.template.date is None:
        return False
    return can_be_watched(tree)


def make_plan(chat: ChatTokenizer, shape: Shape) -> ShapePlan | None:
    """Make the plan of a shape; None where that is not certain."""
    made = make_plan_with_texts(chat, shape)
    return None if made is None else made[0]


def make_plan_with_texts(
    chat: ChatTokenizer, shape: Shape
) -> tuple[ShapePlan, tuple[Part, ...], tuple[Part, ...]] | None:
    """Make the plan of a shape, with the parts of its whole rendering and of its last prompt."""
    from instil.encoding.encoder import turn_texts

    marked = [_MARKS.format(number) for number in range(len(shape))]
    variables = chat.settings.template_variables or EMPTY
    messages = tuple(Message(role, text) for role, text in zip(shape, marked, strict=True))  # type: ignore[arg-type]
    conversation = Conversation(messages, variables=variables)
    log = Log()
    watched = tuple(
        replace(message, content=WatchedStr(text, message=number, log=log))
        for number, (message, text) in enumerate(zip(messages, marked, strict=True))
    )
    try:
        texts = turn_texts(chat, conversation, EncodingReport())
        if shape[0] == "assistant" or not texts or not _same_text(chat, conversation, watched, texts) or log.opaque:
            return None
    except InstilError:
        return None
    examples = _example_plans(chat, texts, marked)
    if examples is None:
        return None
    pieces = tuple(item for example in examples for item in example.layout if isinstance(item, Piece))
    printed = frozenset(part for piece in pieces for part in piece.parts if isinstance(part, int))
    whole, prompt = parts_of(chat.render_messages(conversation, messages), marked), parts_of(texts[-1].prompt, marked)
    if whole is None or prompt is None:
        return None
    return ShapePlan(tuple(examples), tuple(log.asked), pieces, printed), whole, prompt


def _same_text(
    chat: ChatTokenizer, conversation: Conversation, watched: Sequence[Message], texts: Sequence[TurnText]
) -> bool:
    """Render everything that the slow way renders with watched contents; tell whether all turns are of the plain kind."""
    variables = conversation.variables
    chat.template.render_text(watched, variables=variables)
    for turn in texts:
        prompt = chat.template.render_text(watched[: turn.index], variables=variables, add_generation_prompt=True)
        upto = chat.template.render_text(watched[: turn.index + 1], variables=variables)
        written = turn.completion.text
        stop = next((stop for stop in chat.stop_tokens if written.endswith(stop)), "")
        goes_on = upto.startswith(prompt + written) or (upto.startswith(prompt) and stop)
        if prompt != turn.prompt.text or not goes_on:
            return False
    return True


def _example_plans(chat: ChatTokenizer, texts: Sequence[TurnText], marked: Sequence[str]) -> list[ExamplePlan] | None:
    parts = {turn.index: (parts_of(turn.prompt, marked), parts_of(turn.completion, marked)) for turn in texts}
    if any(prompt is None or completion is None for prompt, completion in parts.values()):
        return None
    roots: list[tuple[TurnText, list[TurnText]]] = []
    for turn in reversed(texts):
        behind = turn.prompt.text + turn.completion.text
        for _, inside in roots:
            following = inside[-1].prompt.text
            if len(following) > len(behind) and following.startswith(behind):
                inside.append(turn)
                break
        else:
            roots.append((turn, [turn]))
    plans = [_example_plan(chat, root, inside[::-1], marked) for root, inside in reversed(roots)]
    return None if any(plan is None for plan in plans) else [plan for plan in plans if plan is not None]


def _example_plan(
    chat: ChatTokenizer, root: TurnText, inside: Sequence[TurnText], marked: Sequence[str]
) -> ExamplePlan | None:
    from instil.encoding.turns.rendering_pieces import laid

    tokens, whole = chat.tokens, laid(root.prompt, root.completion)
    starts = {len(turn.prompt.text) for turn in inside}
    stops = {len(turn.prompt.text) + len(turn.completion.text) for turn in inside}
    layout: list[Fixed | Piece] = []
    position, trained = 0, False
    for text, number in tokens.pieces(whole.text):
        end = position + len(text)
        within = [at for at in starts if position <= at < end]
        if len(within) > 1 or (number is not None and within not in ([], [position])):
            return None
        if number is not None:
            trained = trained or bool(within)
            _add_fixed(layout, [number], trained)
        else:
            parts = parts_of(_between(whole, position, end), marked)
            if parts is None or _may_grow(chat, parts):
                return None
            boundary = parts_of(_between(whole, position, within[0]), marked) if within else ()
            if boundary is None or (within and trained):
                return None
            constant = not any(isinstance(part, int) for part in boundary)
            head = list(tokens.piece(fill(boundary, ()), first=position == 0)) if constant and boundary else None
            now = trained or bool(within)
            if any(isinstance(part, int) for part in parts):
                layout.append(Piece(parts, position == 0, now, head, None if constant else boundary))
            else:
                ids = list(tokens.piece(fill(parts, ()), first=position == 0))
                before = len(head or [])
                if ids[:before] != (head or []):
                    return None
                _add_fixed(layout, ids[:before], False)
                _add_fixed(layout, ids[before:], now)
            trained = now
        position = end
        if position in stops:
            if number is None or not trained:
                return None
            trained = False
        elif any(position - len(text) < stop < position for stop in stops):
            return None
    return ExamplePlan(tuple(layout), tuple(turn.index for turn in inside))


def _add_fixed(layout: list[Fixed | Piece], ids: list[int], trained: bool) -> None:
    last = layout[-1] if layout else None
    if isinstance(last, Fixed) and last.trained == trained:
        layout[-1] = Fixed([*last.ids, *ids], trained)
    elif ids:
        layout.append(Fixed(ids, trained))


def _may_grow(chat: ChatTokenizer, parts: Sequence[Part]) -> bool:
    """Tell whether a literal and the content behind it could form an added token."""
    return any(isinstance(part, str) and chat.tokens.begins_in(part) for part in parts[:-1])


def _between(rendering: Rendering, start: int, end: int) -> Rendering:
    from instil.encoding.turns.rendering_pieces import piece

    return piece(rendering, start, end)


def parts_of(rendering: Rendering, marked: Sequence[str]) -> tuple[Part, ...] | None:
    """Give a rendering as literals and whole contents; None where a content is printed otherwise than as a whole.

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
    if any(isinstance(part, str) and "Zz" in part for part in parts):
        return None  # a content that lost its origin
    return tuple(parts)


def fill(parts: Sequence[Part], contents: Sequence[str]) -> str:
    """Lay literals and contents end to end."""
    return "".join([part if isinstance(part, str) else contents[part] for part in parts])
