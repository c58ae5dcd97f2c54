"""Which rows are trained, and which are held out: decided by their content, after they were read.

Works on arrays with one element a row, so that a million rows cost megabytes. Questionable on purpose: where more rows
fall on the held-out side than `heldout_max` allows, those with the smallest hashes stay held out and the others are
trained; equal rows have equal hashes, so they stay together always.
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
    """Give 64 bits of what the conversations of one row say: messages, tools and variables, not place or other columns.

    Example:
        >>> first = Conversation((Message("user", "Hi"),), extra={"id": 1})
        >>> content_hash([first]) == content_hash([Conversation((Message("user", "Hi"),))])
        True
    """
    said = "".join([_said(conversation) for conversation in conversations])
    digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _said(conversation: Conversation) -> str:
    """Give what a conversation says as one text that no other conversation gives; lengths keep the pieces apart."""
    pieces = []
    for message in conversation.messages:
        content = message.content
        if isinstance(content, str) and _is_plain(message):
            pieces.append(f"{message.role}{len(content)}:{content}")
        else:
            pieces.append("+" + _JSON.encode(message_to_dict(message)))
    if conversation.tools or conversation.variables or conversation.plain:
        pieces.append("=" + _JSON.encode([list(conversation.tools), dict(conversation.variables), conversation.plain]))
    return "".join(pieces) + "\n"


def _is_plain(message: Message) -> bool:
    """Tell whether a message is nothing but a role and text."""
    return (
        message.reasoning is None
        and not message.tool_calls
        and message.tool_call_id is None
        and message.name is None
        and message.weight is None
        and not message.extra
    )


def is_candidate(row_hash: int, share: float) -> bool:
    """Tell whether a row falls on the held-out side, before any maximum.

    Example:
        >>> is_candidate(0, 0.05), is_candidate(2**64 - 1, 0.05)
        (True, False)
    """
    return row_hash < share * 2.0**64


def held_out(hashes: Hashes, usable: Mask, *, share: float, maximum: int) -> Mask:
    """Say which rows are held out.

    Args:
        hashes: Content hash of each row.
        usable: Rows that can be evaluated on.
        share: Share of the rows to hold out.
        maximum: At most this many.

    Returns:
        True for rows held out; at most `maximum`, and equal rows on the same side.

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
    return chosen & np.isin(hashes, kept)


def repeated(hashes: Hashes, usable: Mask) -> Mask:
    """Say which rows have a content that an earlier usable row has.

    Example:
        >>> repeated(np.array([7, 8, 7], dtype=np.uint64), np.ones(3, dtype=bool))
        array([False, False,  True])
    """
    where = np.flatnonzero(usable)
    _, first = np.unique(hashes[where], return_index=True)
    later: Mask = usable.copy()
    later[where[first]] = False
    return later


def draw(num_rows: Iterable[object], *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `count` rows of a stream without holding it; gives their positions from 0, in order.

    The same seed draws the same positions; fewer rows than `count` are all drawn.

    Example:
        >>> len(draw(range(100), count=10, seed=0)), draw(range(3), count=10, seed=0).tolist()
        (10, [0, 1, 2])
    """
    source = random.Random(seed)
    kept: list[tuple[float, int]] = []
    for position, _ in enumerate(num_rows):
        key = -source.random()
        if len(kept) < count:
            heapq.heappush(kept, (key, position))
        elif key > kept[0][0]:
            heapq.heapreplace(kept, (key, position))
    return np.array(sorted(position for _, position in kept), dtype=np.int64)
