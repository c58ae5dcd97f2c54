"""Which rows are answered together, out of more than fit the memory, and when waiting ones take free places."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from instil.generation.rows import Row

BATCH_TOKENS = 16_384
"""Most tokens in the cache of a batch, prompts and longest possible answers together."""
_FREE_PLACES = 0.25
"""Rows join when this part of the places is free: a pass that reads several prompts reads the weights once."""


class WaitingRows:
    """Rows that wait for a place in a batch, the longest prompts first, so that memory runs out at once or never.

    Args:
        rows: The rows.
        batch_tokens: Most rows times columns in the cache. A row that is longer is answered alone.
        max_rows: Most rows at once.
    """

    def __init__(self, rows: Sequence[Row], *, batch_tokens: int = BATCH_TOKENS, max_rows: int = 1) -> None:
        self._rows = deque(sorted(rows, key=lambda row: (-len(row.prompt), row.number)))
        self._batch_tokens, self._max_rows = batch_tokens, max_rows
        # The longest prompt and the longest possible answer since the batch was last empty.
        self._prompt = self._answer = 0

    def __bool__(self) -> bool:
        return bool(self._rows)

    def joining(self, in_progress: int) -> list[Row]:
        """Return the rows that join now, which wait no longer.

        Args:
            in_progress: Number of rows in the batch. At 0 at least one row joins, if there is any.
        """
        if not self._rows:
            return []
        if not in_progress:
            self._prompt = self._answer = 0
        elif not self._is_worth_it(in_progress):
            return []
        taken: list[Row] = []
        while self._rows and in_progress + len(taken) < self._max_rows:
            row = self._rows[0]
            prompt, answer = max(self._prompt, len(row.prompt)), max(self._answer, row.limit)
            count = in_progress + len(taken) + 1
            if count > 1 and count * (prompt + answer) > self._batch_tokens:
                break
            self._prompt, self._answer = prompt, answer
            taken.append(self._rows.popleft())
        return taken

    def _is_worth_it(self, in_progress: int) -> bool:
        """Whether enough places are free; and not many fewer than an empty batch, which has shorter rows, would have."""
        places, row = self._places(self._prompt + self._answer), self._rows[0]
        return in_progress <= (1 - _FREE_PLACES) * places and 2 * places >= self._places(len(row.prompt) + row.limit)

    def _places(self, columns: int) -> int:
        return max(1, min(self._max_rows, self._batch_tokens // max(1, columns)))
