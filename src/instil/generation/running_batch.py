"""Rows of one or several requests that are answered together; rows may come while others are in the middle.

A step is two calls: `choose` takes one token for each row, and `step` has the model read these tokens. Between them a
caller sends the tokens on; after `step` it may `add` rows. A row that is alone is a batch of one, whose keys and values
stay where they are when a second row comes. Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from instil.errors import InstilError
from instil.generation.choosing import choose, penalise_counts, penalise_repeats
from instil.generation.decoder.plain import PlainRows
from instil.generation.decoder.steps import Steps
from instil.generation.decoding import Decoder
from instil.generation.logprobs import logprobs_of
from instil.generation.rows import Row
from instil.generation.settings import SamplingSettings
from instil.model.to_device import send


class RunningBatch:
    """Rows in progress. Use it within `answering`.

    Args:
        model: A causal language model, with or without adapters.
        stop_ids: Ids that end an answer.
        pad_id: An id that fills shorter prompts.
        steps: The model's plain steps, if it has them.

    Attributes:
        rows: The rows in progress, in the order of their logits.
    """

    def __init__(
        self, model: torch.nn.Module, *, stop_ids: Collection[int], pad_id: int = 0, steps: Steps | None = None
    ) -> None:
        self._model, self._stops, self._pad_id, self._steps = model, frozenset(stop_ids), pad_id, steps
        self._decoder: Decoder | PlainRows | None = None
        self._logits = torch.empty(0)
        self._chosen = torch.empty(0)
        self.rows: list[Row] = []

    @property
    def takes_more(self) -> bool:
        """Whether `add` may be called now: always while no row is in progress."""
        return not self.rows or self._decoder is None or self._decoder.takes_more

    @torch.no_grad()
    def add(self, rows: Sequence[Row]) -> None:
        """Read the prompts of further rows. Call it before `choose`."""
        prompts = [row.prompt for row in rows]
        if not self.rows:
            self._decoder = self._new_decoder()
            self._logits = self._decoder.add(prompts)
        else:
            assert self._decoder is not None
            self._logits = torch.cat([self._logits, self._decoder.add(prompts)])
        if isinstance(self._decoder, PlainRows):
            for row, count in zip(rows, self._decoder.num_reused, strict=True):
                row.num_reused = count
        self.rows += rows
        for row in rows:
            _start_penalties(row, self._logits)

    def _new_decoder(self) -> Decoder | PlainRows:
        if self._steps is not None:
            return PlainRows(self._steps)
        return Decoder(self._model, pad_id=self._pad_id)

    @torch.no_grad()
    def choose(self) -> list[Row]:
        """Take one token for each row; return the rows. One that has ended, or failed, stays until `step`."""
        logits = self._limited()
        groups: dict[SamplingSettings, list[int]] = {}
        for at, row in enumerate(self.rows):
            groups.setdefault(row.choosing, []).append(at)
        if len(groups) == 1:
            self._chosen = choose(logits, self.rows[0].choosing, [row.draws for row in self.rows])
        else:
            self._chosen = torch.empty(len(self.rows), dtype=torch.long, device=logits.device)
            for settings, places in groups.items():
                index = send(places, logits.device)
                self._chosen[index] = choose(logits[index], settings, [self.rows[at].draws for at in places])
        tokens = self._read_tokens()
        for row, token in zip(self.rows, tokens, strict=True):
            if row.error is None:
                row.take(token, self._stops)
        return self.rows

    def _read_tokens(self) -> list[int]:
        """Return the chosen tokens, and keep their log-probabilities: the one read of a step, for which the host waits."""
        kinds = {row.num_top for row in self.rows}
        if kinds == {None}:
            tokens: list[int] = self._chosen.tolist()
            return tokens
        num_top = max(kind for kind in kinds if kind is not None)
        entries = logprobs_of(self._logits, self._chosen, num_top=num_top)
        for row, entry in zip(self.rows, entries, strict=True):
            if row.num_top is not None and entry.token_id not in self._stops:
                row.logprobs.append(replace(entry, top=entry.top[: row.num_top]))
        return [entry.token_id for entry in entries]

    @torch.no_grad()
    def step(self) -> None:
        """Let ended rows leave, and have the model read the chosen tokens of the others."""
        going = [at for at, row in enumerate(self.rows) if row.finish_reason is None and row.error is None]
        if not going:
            self.end()
            return
        assert self._decoder is not None
        for at in going:
            _count(self.rows[at])
        if len(going) < len(self.rows):
            order = _filled(going)
            self._decoder.keep(order)
            self._chosen = self._chosen[send(order, self._chosen.device)]
            self.rows = [self.rows[at] for at in order]
        self._logits = self._decoder.step(self._chosen)

    def end(self) -> None:
        """Let every row leave; what plain steps have read of them may be kept."""
        if isinstance(self._decoder, PlainRows):
            self._decoder.keep([])
        self.rows, self._decoder = [], None

    def _limited(self) -> Tensor:
        """Return logits [B, V] after the penalties, and without the tokens that leave a row's form."""
        if not any(row.matcher or row.seen is not None or row.counts is not None for row in self.rows):
            return self._logits
        return torch.stack([_limited(row, values) for row, values in zip(self.rows, self._logits, strict=True)])


def _filled(going: Sequence[int]) -> list[int]:
    """Return the rows that go on, in an order in which few change their place: the last ones fill the gaps.

    Example:
        >>> _filled([1, 2, 4]), _filled([0, 1])
        ([4, 1, 2], [0, 1])
    """
    staying, moving = set(going), [at for at in going if at >= len(going)]
    return [at if at in staying else moving.pop() for at in range(len(going))]


def _start_penalties(row: Row, logits: Tensor) -> None:
    """Give a row the marks that its penalties need."""
    if row.choosing.repetition_penalty != 1:
        row.seen = torch.zeros_like(logits[0], dtype=torch.bool)
        row.seen[send(list(row.prompt), logits.device)] = True
    if row.choosing.presence_penalty or row.choosing.frequency_penalty:
        row.counts = torch.zeros_like(logits[0])


def _count(row: Row) -> None:
    """Mark a row's newest token."""
    if row.seen is not None:
        row.seen[row.token] = True
    if row.counts is not None:
        row.counts[row.token] += 1


def _limited(row: Row, logits: Tensor) -> Tensor:
    """Return a row's logits [V] after its penalties and its form; a form that cannot go on is the row's error."""
    settings = row.choosing
    if row.seen is not None:
        logits = penalise_repeats(logits, row.seen, settings.repetition_penalty)
    if row.counts is not None:
        logits = penalise_counts(
            logits, row.counts, presence=settings.presence_penalty, frequency=settings.frequency_penalty
        )
    if row.matcher is not None:
        try:
            logits = row.matcher.apply(logits)
        except InstilError as error:
            row.error = error
    return logits
