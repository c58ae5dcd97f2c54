"""Read and write the loss weights of messages and of parts of their text.

`message_reading` and `message_parts` call it. The keys are those of OpenAI (``weight``), Axolotl (``train``, ``training``,
``train_detail``, ``training_detail``) and others (``loss_weight``, ``loss``).

Why: a gap in ``train_detail`` is refused, because other tools do not agree on whether it is trained.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation.message import PartWeight
from instil.errors import DataError

WEIGHT_KEYS = ("weight", "loss_weight", "loss", "train", "training")
DETAIL_KEYS = ("train_detail", "training_detail")
_OFFSETS = ("begin_offset", "end_offset")


def read_weight(mapping: Mapping[str, Any], *, where: str) -> float | None:
    """Return the weight of a message or part; None if it has none. True is 1, false is 0, null is absent.

    Args:
        mapping: A message, a part of its content, or an entry of ``train_detail``.
        where: What errors start with.

    Raises:
        DataError: If a weight is not a number of at least 0, or two keys disagree.

    Example:
        >>> read_weight({"train": False}, where="row 1"), read_weight({"train": True, "weight": 0.5}, where="row 1")
        (0.0, 0.5)
        >>> read_weight({"role": "user"}, where="row 1") is None
        True
    """
    numbers: set[float] = set()
    is_trained = False
    for key in WEIGHT_KEYS:
        value = mapping.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
            raise DataError(
                f"{where} has {key} {value!r}. Expected true, false, or a number of at least 0. Fix the row."
            )
        # True agrees with every number above 0.
        if value is True:
            is_trained = True
        else:
            numbers.add(float(value))
    if len(numbers) > 1 or (is_trained and 0.0 in numbers):
        raise DataError(f"{where} has two different weights. Expected one of {', '.join(WEIGHT_KEYS)}. Keep one.")
    return numbers.pop() if numbers else 1.0 if is_trained else None


def read_detail(message: Mapping[str, Any], text: object, *, where: str) -> tuple[PartWeight, ...]:
    """Read ``train_detail``: the weights of ranges of characters that together are the complete text.

    ``end_offset`` is a range's last character, as in Axolotl. If every range ends where the next one begins, it is the
    character behind it.

    Args:
        message: The message.
        text: Its content.
        where: What errors start with.

    Raises:
        DataError: If the content is not text, or the ranges are not the complete text.

    Example:
        >>> detail = [{"begin_offset": 0, "end_offset": 2, "train": False}, {"begin_offset": 3, "end_offset": 4}]
        >>> read_detail({"train_detail": detail}, "No, 4"[:5], where="row 1")
        (PartWeight(field='content', start=0, end=3, weight=0.0),)
    """
    key = next((key for key in DETAIL_KEYS if message.get(key) is not None), None)
    if key is None:
        return ()
    entries = message[key]
    if not isinstance(text, str):
        raise DataError(f"{where} has {key} beside content that is not text. Expected text. Set train in its parts.")
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not all(map(_has_offsets, entries)):
        raise DataError(
            f"{where} has a {key} that is not a list of {', '.join(_OFFSETS)} and train. Expected one. Fix the row."
        )
    ranges = sorted((entry["begin_offset"], entry["end_offset"], number) for number, entry in enumerate(entries))
    starts = [start for start, _, _ in ranges]
    for last in (1, 0):  # how many characters behind `end_offset` a range ends
        ends = [end + last for _, end, _ in ranges]
        if starts == [0, *ends[:-1]] and ends[-1:] == [len(text)]:
            break
    else:
        raise DataError(
            f"{where}: the ranges of {key} are not the complete text of {len(text):,} characters. Expected every "
            "character in one of them. Fix the row."
        )
    weights = [read_weight(entries[number], where=f"{where}: {key} {number + 1}") for _, _, number in ranges]
    return tuple(
        PartWeight("content", start, end, weight)
        for start, end, weight in zip(starts, ends, weights, strict=True)
        if weight not in (None, 1.0) and start < end
    )


def _has_offsets(entry: object) -> bool:
    return isinstance(entry, Mapping) and all(
        isinstance(entry.get(key), int) and not isinstance(entry.get(key), bool) for key in _OFFSETS
    )


def weighted_pieces(text: str, weights: Sequence[PartWeight]) -> list[tuple[int, int, float]]:
    """Return a text's ranges in order, each with its weight; together they are the complete text.

    Example:
        >>> weighted_pieces("No, 4", [PartWeight("content", 0, 4, 0.0)])
        [(0, 4, 0.0), (4, 5, 1.0)]
    """
    pieces: list[tuple[int, int, float]] = []
    at = 0
    for part in sorted(weights, key=lambda part: part.start):
        if part.start > at:
            pieces.append((at, part.start, 1.0))
        pieces.append((part.start, part.end, part.weight))
        at = part.end
    return [*pieces, (at, len(text), 1.0)] if at < len(text) else pieces


def write_detail(text: str, weights: Sequence[PartWeight]) -> list[dict[str, Any]]:
    """Return ``train_detail`` for a text; `read_detail` reads it back.

    Example:
        >>> write_detail("Hi", [PartWeight("content", 0, 1, 0.0)])[0]
        {'begin_offset': 0, 'end_offset': 0, 'weight': 0.0}
    """
    return [
        {"begin_offset": start, "end_offset": end - 1, "weight": weight}
        for start, end, weight in weighted_pieces(text, weights)
    ]
