"""Two conversations in a row that are the two sides of a pair, put together before they are written or read.

Rows of a file become conversations with sides in `formats`. Here are those that come from a program: they stand one
after the other, and nothing but their order and their prompt says what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, get_args

from instil.conversation import Conversation, Place
from instil.data.formats.preferences.pairs import as_judged, as_pair, has_common_prompt
from instil.data.formats.row_format import ReadOptions
from instil.errors import DataError, nearest
from instil.recipe import Objective, Reading, reading_of

Group: TypeAlias = tuple[Conversation] | tuple[Conversation, Conversation]
"""One conversation, or the chosen and the rejected side of a pair."""


def reading_for(objective: Objective) -> Reading:
    """Return how an objective reads rows.

    Raises:
        DataError: If there is no such objective.

    Example:
        >>> reading_for("dpo")
        'pairs'
    """
    names = get_args(Objective)
    if objective not in names:
        hint = nearest(objective, names) if isinstance(objective, str) else ""
        raise DataError(
            f"objective: found {objective!r:.80}{hint}. Expected one of {', '.join(names)}. Correct the argument."
        )
    return reading_of(objective)


def follow_each_other(first: Conversation, second: Conversation) -> bool:
    """Return whether two conversations are a chosen side and the rejected one behind it.

    Example:
        >>> good, bad = ([{"role": "assistant", "content": text}] for text in ("4", "5"))
        >>> follow_each_other(Conversation(good, side="chosen"), Conversation(bad, side="rejected"))
        True
    """
    return (first.side, second.side) == ("chosen", "rejected")


def are_pair(first: Conversation, second: Conversation) -> bool:
    """Return whether one row can hold two conversations as a pair, where they may as well be two judged answers.

    Why: conversations of a program do not say which objective they are for. Judged answers may follow each other by
    chance, and are a pair only if they share prompt, tools and columns.
    """
    return (
        follow_each_other(first, second)
        and not first.plain
        and has_common_prompt(first, second)
        and all(getattr(first, name) == getattr(second, name) for name in ("tools", "variables", "plain", "extra"))
    )


def with_other_side(
    rows: Iterable[tuple[Place | None, Any]], is_pair: Callable[[Conversation, Conversation], bool]
) -> Iterator[tuple[Place | None, Any, Conversation | None]]:
    """Yield rows with their place; a chosen `Conversation` together with the rejected one behind it, if they are a pair.

    Args:
        rows: Conversations, or rows of any other kind, which pass as they are.
        is_pair: Whether two conversations in a row are a pair.

    Example:
        >>> good, bad = ([{"role": "assistant", "content": text}] for text in ("4", "5"))
        >>> rows = [(None, Conversation(good, side="chosen")), (None, Conversation(bad, side="rejected")), (None, {})]
        >>> [other is not None for _, _, other in with_other_side(rows, follow_each_other)]
        [True, False]
    """
    waiting: tuple[Place | None, Conversation] | None = None
    for place, row in rows:
        if waiting is not None:
            is_other = isinstance(row, Conversation) and is_pair(waiting[1], row)
            yield *waiting, (row if is_other else None)
            waiting = None
            if is_other:
                continue
        if isinstance(row, Conversation) and row.side == "chosen":
            waiting = (place, row)
        else:
            yield place, row, None
    if waiting is not None:
        yield *waiting, None


def checked_group(group: Group, options: ReadOptions) -> tuple[Conversation, ...]:
    """Return conversations of a program as an objective reads them, their prompts with weight 0.

    Raises:
        DataError: If they have no side, or a side has no other one and the objective needs pairs.
    """
    first = group[0]
    if options.reading == "sft":
        return group
    if first.side is None:
        raise DataError(
            f"{first.place}: is a Conversation without a side. The objective compares answers: expected side='chosen' "
            "or side='rejected'. Set it, or leave the objective out."
        )
    if options.reading == "judged":
        return tuple(as_judged(one, one.side) for one in group if one.side is not None)
    if len(group) == 1:
        expected = "a rejected one behind it" if first.side == "chosen" else "a chosen one before it"
        raise DataError(
            f"{first.place}: is a {first.side} Conversation alone. The objective compares pairs: expected {expected}. "
            "Add it."
        )
    return as_pair(group[0], group[1])
