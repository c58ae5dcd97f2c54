"""Plans for long conversations, from those of short ones.

Proving an 80-turn shape by rendering every prompt costs more than encoding one such conversation. A shape whose exchanges repeat is planned from
three, four and five exchanges instead: if each adds the same block, so does every further one, provided the template cannot count (no number beyond two stands
in it). Questionable on purpose: that last step is an inference, so every conversation encoded so is also rendered, whole and as its last prompt, and must come out as planned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from jinja2 import nodes

from instil.conversation import Conversation
from instil.encoding.plans.shape_plan import ExamplePlan, Fixed, Part, Piece, Shape, ShapePlan, fill
from instil.encoding.plans.watched_string import Asked

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

T = TypeVar("T")
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

    def comes_out(self, chat: ChatTokenizer, conversation: Conversation, contents: Sequence[str]) -> bool:
        """Render a conversation whole and as its last prompt, and tell whether both are as planned."""
        messages, variables = conversation.messages, chat.settings.template_variables
        whole = chat.template.render_text(messages, variables=variables)
        if whole != fill(self.whole, contents):
            return False
        prompt = chat.template.render_text(messages[: self.last], variables=variables, add_generation_prompt=True)
        return prompt == fill(self.prompt, contents)


def exchanges_of(shape: Shape) -> int:
    """Give how many exchanges a shape consists of, after a system message if any; 0 if it is not made of exchanges.

    Example:
        >>> exchanges_of(("system", "user", "assistant", "user", "assistant")), exchanges_of(("user", "user"))
        (2, 0)
    """
    body = shape[1:] if shape[:1] == ("system",) else shape
    count = len(body) // 2
    return count if body == _EXCHANGE * count else 0


def cannot_count(tree: nodes.Template) -> bool:
    """Tell whether no number beyond two stands in a template, so that it cannot tell many turns from a few."""
    return all(not isinstance(each.value, int | float) or abs(each.value) <= 2 for each in tree.find_all(nodes.Const))


def make_long_plan(
    shape: Shape, *, short: Callable[[Shape], tuple[ShapePlan, tuple[Part, ...], tuple[Part, ...]] | None]
) -> LongPlan | None:
    """Make the plan of a long shape from short ones; None where they do not repeat.

    Args:
        shape: A shape of at least `MIN_EXCHANGES` exchanges.
        short: Gives a short shape's plan with the parts of its whole rendering and of its last prompt.
    """
    lead = len(shape) % 2
    made = [short(shape[: lead + 2 * count]) for count in _SHORT]
    if any(each is None or len(each[0].examples) != 1 for each in made):
        return None
    (three, *texts_3), (four, *texts_4), (five, *texts_5) = [each for each in made if each is not None]
    count = exchanges_of(shape)
    layouts = [plan.examples[0].layout for plan in (three, four, five)]
    layout = _grown(layouts, count, _shift_item)
    grown = [_grown(list(parts), count, _shift_part) for parts in zip(texts_3, texts_4, texts_5, strict=True)]
    if layout is None or any(parts is None for parts in grown):
        return None
    whole, prompt = (tuple(parts) for parts in grown if parts is not None)
    pieces = tuple(item for item in layout if isinstance(item, Piece))
    turns = tuple(index for index, role in enumerate(shape) if role == "assistant")
    asked = _asked_of_all(shape, (four, five))
    messages = frozenset(part for piece in pieces for part in piece.parts if isinstance(part, int))
    plan = ShapePlan((ExamplePlan(tuple(layout), turns),), asked, pieces, messages)
    return LongPlan(plan, whole, prompt, turns[-1])


def _grown(short: Sequence[Sequence[T]], count: int, shift: Callable[[T, int], T]) -> list[T] | None:
    """Continue three sequences that each grow by one block to the one of `count` blocks; None where they do not."""
    three, four, five = short
    step = len(four) - len(three)
    same = next((at for at, (a, b) in enumerate(zip(three, four, strict=False)) if a != b), min(len(three), len(four)))
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


def _asked_of_all(shape: Shape, plans: Sequence[ShapePlan]) -> tuple[Asked, ...]:
    """Give every question asked of a message of a role to all messages of that role."""
    asked: dict[Asked, None] = {}
    for plan in plans:
        for each in plan.asked:
            role = shape[each.message]
            for index, other in enumerate(shape):
                if other == role:
                    asked[replace(each, message=index)] = None
    return tuple(asked)
