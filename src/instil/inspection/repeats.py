"""Find what needs all rows: one answer to many questions, exact duplicates, answers cut at one length.

Memory is bounded by `max_rows` short digests. Later rows are only compared with these, and `num_not_remembered` counts
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from instil.conversation import Conversation, Place
from instil.inspection.conversation_checks import answer_text
from instil.inspection.findings import Finding
from instil.views.visible import shortened

_SHORTEST_ANSWER = 40  # characters: labels and "Yes." are the same for many questions by design
_FEWEST_REPEATS, _SHARE_OF_REPEATS = 3, 0.005
_FEWEST_CUT, _SHORTEST_CUT = 3, 200
_ENDS = tuple(".!?…。！？\"'”’)]}`>*|:;»」』")


def digest(text: str) -> bytes:
    """Return a 12-byte digest of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


@dataclass(slots=True)
class _Answer:
    first: Place
    sample: str
    questions: set[bytes] = field(default_factory=set)
    count: int = 0


class Repeats:
    """Remembers the answers of every conversation, and finds those that repeat.

    Args:
        max_rows: Number of rows whose digests are remembered.
    """

    def __init__(self, *, max_rows: int = 500_000) -> None:
        self._max_rows = max_rows
        self._seen: dict[int, Place] = {}
        self._once: dict[bytes, tuple[Place, bytes]] = {}
        self._answers: dict[bytes, _Answer] = {}
        self._lengths: dict[int, dict[bytes, tuple[Place, int, str]]] = {}
        self.num_rows = 0
        self.num_not_remembered = 0

    def add(self, conversations: Sequence[Conversation], place: Place, *, row_hash: int) -> Place | None:
        """Add the conversations of a row, and return the place of an earlier row with the same content, or None."""
        self.num_rows += 1
        earlier = self._seen.get(row_hash)
        if earlier is not None:
            return earlier
        for conversation in conversations:
            if not conversation.plain:
                self._watch_answers(conversation, place)
        if len(self._seen) < self._max_rows:
            self._seen[row_hash] = place
        else:
            self.num_not_remembered += 1
        return None

    def _watch_answers(self, conversation: Conversation, place: Place) -> None:
        prompt = ""
        for number, message in enumerate(conversation.messages, start=1):
            text = answer_text(message)
            if message.role != "assistant":
                prompt = text
                continue
            if len(text) >= _SHORTEST_CUT and not text.rstrip().endswith(_ENDS):
                self._watch_length(text, place, number)
            if len(text) >= _SHORTEST_ANSWER:
                self._watch_answer(digest(" ".join(text.split()).lower()), digest(prompt), text, place)

    def _watch_length(self, text: str, place: Place, number: int) -> None:
        kept = self._lengths.setdefault(len(text), {})
        if len(kept) < 1000:
            kept.setdefault(digest(text), (place, number, text[-60:]))
        if len(self._lengths) > 4096:  # only the greatest length can be a limit
            for length in sorted(self._lengths)[:2048]:
                del self._lengths[length]

    def _watch_answer(self, key: bytes, question: bytes, text: str, place: Place) -> None:
        answer = self._answers.get(key)
        if answer is None:
            once = self._once.get(key)
            if once is None:
                if len(self._once) < self._max_rows:
                    self._once[key] = (place, question)
                return
            answer = self._answers[key] = _Answer(once[0], shortened(text, 80), {once[1]}, 1)
        answer.count += 1
        if len(answer.questions) < 1000:
            answer.questions.add(question)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings that need all rows."""
        least = max(_FEWEST_REPEATS, _SHARE_OF_REPEATS * self.num_rows)
        often = [answer for answer in self._answers.values() if len(answer.questions) >= least]
        for answer in sorted(often, key=lambda answer: -answer.count):
            seen = (
                f"occurs {answer.count:,} times, after {len(answer.questions):,} different questions: {answer.sample}"
            )
            yield Finding("repeated_answer", answer.first, seen)
        yield from self._cut_at_one_length()

    def _cut_at_one_length(self) -> Iterator[Finding]:
        """Yield unfinished answers that all have the same, greatest length: the data was cut there earlier."""
        if not self._lengths:
            return
        longest = max(self._lengths)
        cut = self._lengths[longest].values()
        if len(cut) < _FEWEST_CUT:
            return
        for place, number, end in cut:
            seen = (
                f"message {number} ends at {longest:,} characters, like {len(cut)} unfinished answers: "
                f"…{shortened(end, 60)}"
            )
            yield Finding("cut_answer", place, seen)
