"""Find pairs that another row has with its sides exchanged, and answers that are judged good here and bad there.

White space at the ends of texts makes no difference. Memory is bounded by `max_rows` hashes. Later rows are only
compared with these.
"""

from __future__ import annotations

from dataclasses import replace

from instil.conversation import Conversation, Place
from instil.preparation.encode_pairs import Unit, trimmed
from instil.preparation.split import content_hash


class Contradictions:
    """Remembers pairs and judged answers, and finds an earlier one that says the opposite.

    Example:
        >>> from instil.conversation import Message
        >>> good, bad = (Conversation((Message("assistant", "4"),), side=side) for side in ("chosen", "rejected"))
        >>> seen = Contradictions()
        >>> seen.add((good,), Place("a.jsonl", 1)), str(seen.add((bad,), Place("a.jsonl", 2)))
        (None, 'a.jsonl:1')
    """

    def __init__(self, *, max_rows: int = 500_000) -> None:
        self._max_rows = max_rows
        self._seen: dict[int, Place] = {}

    def add(self, unit: Unit, place: Place) -> Place | None:
        """Remember a pair or a judged answer, and return the place of the opposite, or None."""
        unit = tuple(replace(side, messages=tuple(trimmed(side.messages))) for side in unit)
        own, opposite = content_hash(unit), content_hash([_exchanged(side) for side in reversed(unit)])
        if own == opposite:  # two equal answers
            return None
        if len(self._seen) < self._max_rows:
            self._seen.setdefault(own, place)
        return self._seen.get(opposite)


def _exchanged(conversation: Conversation) -> Conversation:
    return replace(conversation, side="rejected" if conversation.side == "chosen" else "chosen")
