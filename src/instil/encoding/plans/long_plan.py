"""Plans for long conversations, derived from those of short ones.

Proving an 80-turn shape by rendering every prompt costs more than encoding one such conversation. A shape whose
exchanges repeat is planned from three, four and five exchanges instead. If each further exchange adds the same block,
so does every later one, provided that the template cannot count: no number above two stands in it.

Why: that last step is an inference. So every conversation encoded with such a plan is also rendered, whole and as its
last prompt, and both texts must be as planned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from jinja2 import nodes

from instil.conversation import Conversation
from instil.encoding.context import EncodingContext
from instil.encoding.plans.shape_plan import ExamplePlan, Fixed, Part, Piece, Shape, ShapePlan, fill
from instil.encoding.plans.watched_string import RecordedQuestion

T = TypeVar("T")
PlanAndTexts = tuple[ShapePlan, tuple[Part, ...], tuple[Part, ...]]
"""A plan, the parts of the whole rendering, and the parts of the last prompt."""
_EXCHANGE = ("user", "assistant")
_SHORT = (3, 4, 5)
MIN_EXCHANGES = 7


@dataclass(frozen=True, slots=True)
class LongPlan:
    """A plan for more exchanges than were proved, and the texts that a conversation's rendering must equal.

    Attributes:
        plan: The plan.
        whole: Parts of the rendering of the whole conversation.
        prompt: Parts of the last turn's prompt.
        last: Index of the last assistant turn.
    """

    plan: ShapePlan
    whole: tuple[Part, ...]
    prompt: tuple[Part, ...]
    last: int

    def renders_as_planned(self, context: EncodingContext, conversation: Conversation, contents: Sequence[str]) -> bool:
        """Render a conversation whole and as its last prompt, and return whether both are as planned."""
        messages, variables = conversation.messages, context.settings.template_variables
        whole = context.template.render_text(messages, variables=variables)
        if whole != fill(self.whole, contents):
            return False
        prompt = context.template.render_text(messages[: self.last], variables=variables, add_generation_prompt=True)
        return prompt == fill(self.prompt, contents)


def num_exchanges(shape: Shape) -> int:
    """Return how many exchanges a shape has after an optional system message; 0 if it is not made of exchanges.

    Example:
        >>> num_exchanges(("system", "user", "assistant", "user", "assistant")), num_exchanges(("user", "user"))
        (2, 0)
    """
    body = shape[1:] if shape[:1] == ("system",) else shape
    count = len(body) // 2
    return count if body == _EXCHANGE * count else 0


def cannot_count(tree: nodes.Template) -> bool:
    """Return whether no number above two stands in a template, so that it cannot tell many turns from a few."""
    constants = tree.find_all(nodes.Const)
    return all(not isinstance(constant.value, int | float) or abs(constant.value) <= 2 for constant in constants)


def make_long_plan(shape: Shape, *, plan_short: Callable[[Shape], PlanAndTexts | None]) -> LongPlan | None:
    """Return the plan of a long shape, made from short ones; None if they do not repeat.

    Args:
        shape: A shape of at least `MIN_EXCHANGES` exchanges.
        plan_short: Plans a short shape.
    """
    lead = len(shape) % 2  # a system message
    short = [plan_short(shape[: lead + 2 * count]) for count in _SHORT]
    # A template that rewrites history needs several examples, whose number grows with the conversation.
    if any(planned is None or len(planned[0].examples) != 1 for planned in short):
        return None
    (three, *texts_3), (four, *texts_4), (five, *texts_5) = [planned for planned in short if planned is not None]
    count = num_exchanges(shape)
    layouts = [plan.examples[0].layout for plan in (three, four, five)]
    layout = _continued(layouts, count, _shift_item)
    texts = [_continued(list(parts), count, _shift_part) for parts in zip(texts_3, texts_4, texts_5, strict=True)]
    if layout is None or any(parts is None for parts in texts):
        return None
    whole, prompt = (tuple(parts) for parts in texts if parts is not None)
    pieces = tuple(item for item in layout if isinstance(item, Piece))
    turns = tuple(index for index, role in enumerate(shape) if role == "assistant")
    messages = frozenset(part for piece in pieces for part in piece.parts if isinstance(part, int))
    questions = _ask_all_of_the_role(shape, (four, five))
    plan = ShapePlan((ExamplePlan(tuple(layout), turns),), questions, pieces, messages)
    return LongPlan(plan, whole, prompt, turns[-1])


def _continued(short: Sequence[Sequence[T]], count: int, shift: Callable[[T, int], T]) -> list[T] | None:
    """Continue three sequences that grow by one block each to one of `count` blocks; None if they do not grow so."""
    three, four, five = short
    step = len(four) - len(three)
    differs = (at for at, (a, b) in enumerate(zip(three, four, strict=False)) if a != b)
    same = next(differs, min(len(three), len(four)))
    if step <= 0 or same < step:
        return None
    block = list(three[same - step : same])

    def grow(times: int) -> list[T]:
        added = [shift(item, 2 * (time + 1)) for time in range(times) for item in block]
        return [*three[:same], *added, *(shift(item, 2 * times) for item in three[same:])]

    if grow(1) != list(four) or grow(2) != list(five):
        return None
    return grow(count - _SHORT[0])


def _shift_part(part: Part, by: int) -> Part:
    return part + by if isinstance(part, int) else part


def _shift_item(item: Fixed | Piece, by: int) -> Fixed | Piece:
    if isinstance(item, Fixed):
        return item
    boundary = item.boundary and tuple(_shift_part(part, by) for part in item.boundary)
    return replace(item, parts=tuple(_shift_part(part, by) for part in item.parts), boundary=boundary)


def _ask_all_of_the_role(shape: Shape, plans: Sequence[ShapePlan]) -> tuple[RecordedQuestion, ...]:
    """Return every question that is asked of a message, asked of all messages of its role."""
    questions: dict[RecordedQuestion, None] = {}
    for plan in plans:
        for question in plan.questions:
            role = shape[question.message]
            for index, other in enumerate(shape):
                if other == role:
                    questions[replace(question, message=index)] = None
    return tuple(questions)
