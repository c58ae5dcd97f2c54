"""Decide by content which rows are trained and which are held out, and draw rows.

`accounting` calls these functions with arrays of one element per row, so a million rows take megabytes.

Why: if more rows fall on the held-out side than `heldout_max` allows, those with the smallest hashes stay held out.
Equal rows have equal hashes, so they always stay on the same side.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from instil.conversation import Conversation, Message
from instil.data.messages import message_to_dict

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str)


def content_hash(conversations: Iterable[Conversation]) -> int:
    """Return a 64-bit hash of the conversations of one row: messages, tools, variables and sides, not place or columns.

    Example:
        >>> first = Conversation((Message("user", "Hi"),), extra={"id": 1})
        >>> content_hash([first]) == content_hash([Conversation((Message("user", "Hi"),))])
        True
    """
    content = "".join([_content(conversation) for conversation in conversations])
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _content(conversation: Conversation) -> str:
    """Return the content of a conversation as one text, unique because lengths separate its pieces."""
    pieces = []
    for message in conversation.messages:
        content = message.content
        if isinstance(content, str) and _is_plain(message):
            pieces.append(f"{message.role}{len(content)}:{content}")
        else:
            pieces.append("+" + _JSON.encode(message_to_dict(message)))
    if conversation.side is not None:
        pieces.append(f"@{conversation.side}")
    if conversation.tools or conversation.variables or conversation.plain:
        pieces.append("=" + _JSON.encode([list(conversation.tools), dict(conversation.variables), conversation.plain]))
    return "".join(pieces) + "\n"


def _is_plain(message: Message) -> bool:
    """Return True if a message holds only a role and text."""
    return (
        message.reasoning is None
        and not message.tool_calls
        and message.tool_call_id is None
        and message.name is None
        and message.weight is None
        and not message.part_weights
        and not message.extra
    )


def is_candidate(row_hash: int, share: float) -> bool:
    """Return True if a row falls on the held-out side, before the maximum is applied.

    Example:
        >>> is_candidate(0, 0.05), is_candidate(2**64 - 1, 0.05)
        (True, False)
    """
    return row_hash < share * 2.0**64


def held_out(hashes: Hashes, usable: Mask, *, share: float, maximum: int) -> Mask:
    """Return the mask of held-out rows.

    Args:
        hashes: Content hash of each row.
        usable: Rows that may be held out.
        share: Share of the rows to hold out, 0 to 1.
        maximum: Largest number of held-out rows.

    Returns:
        True for held-out rows. Equal rows are on the same side.

    Example:
        >>> hashes = np.array([1, 5, 1, 2**63], dtype=np.uint64)
        >>> held_out(hashes, np.ones(4, dtype=bool), share=0.1, maximum=2)
        array([ True, False,  True, False])
    """
    chosen: Mask = usable & (hashes < np.uint64(min(int(share * 2.0**64), 2**64 - 1)))
    if chosen.sum() <= maximum:
        return chosen
    values, counts = np.unique(hashes[chosen], return_counts=True)
    kept = values[: int(np.searchsorted(np.cumsum(counts), maximum, side="right"))]
    return chosen & among(hashes, kept)


def among(hashes: Hashes, values: Hashes) -> Mask:
    """Return the mask of hashes that are among some values, of which there may be few or many.

    Why: `np.isin` takes three times the memory, and fifteen times as long for few values.

    Example:
        >>> among(np.array([7, 8, 9], dtype=np.uint64), np.array([9, 7], dtype=np.uint64))
        array([ True, False,  True])
    """
    if not len(values):
        return np.zeros(len(hashes), dtype=bool)
    values = np.unique(values)
    where = np.searchsorted(values, hashes)
    where[where == len(values)] = 0
    found: Mask = values[where] == hashes
    return found


def repeated(hashes: Hashes, usable: Mask) -> Mask:
    """Return the mask of rows whose content an earlier usable row has.

    Example:
        >>> repeated(np.array([7, 8, 7], dtype=np.uint64), np.ones(3, dtype=bool))
        array([False, False,  True])
    """
    where = np.flatnonzero(usable)
    _, first = np.unique(hashes[where], return_index=True)
    later: Mask = usable.copy()
    later[where[first]] = False
    return later


def draw(rows: Iterable[object], *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `count` rows of a stream in one pass, and return their positions from 0, sorted.

    The same seed draws the same positions. A stream of at most `count` rows is drawn completely.

    Example:
        >>> len(draw(range(100), count=10, seed=0)), draw(range(3), count=10, seed=0).tolist()
        (10, [0, 1, 2])
    """
    source = random.Random(seed)
    kept: list[tuple[float, int]] = []
    for position, _ in enumerate(rows):
        key = -source.random()
        if len(kept) < count:
            heapq.heappush(kept, (key, position))
        elif key > kept[0][0]:
            heapq.heapreplace(kept, (key, position))
    return np.array(sorted(position for _, position in kept), dtype=np.int64)
