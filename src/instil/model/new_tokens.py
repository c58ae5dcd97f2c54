"""Makes a model's embedding and head fit a tokenizer that `add_chat_tokens` has changed.

Rows of template tokens that exist but were never trained (``<|eot_id|>`` of Llama 3 base) are found, re-initialised and
reported like new ones.

Why: new rows are drawn with the mean and the full covariance of the old ones. transformers draws near-copies of the
mean instead, so that new tokens would hardly differ at first.

Shapes: V rows, D width, K new rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from instil.errors import ModelError
from instil.model.chat_tokens import TokenChange
from instil.model.folder.generation_config import set_stop_ids
from instil.model.underlying import underlying

RowReader: TypeAlias = Callable[[int, int], torch.Tensor]
"""Returns the rows of a table from a first one to before a last one."""
BLOCK_ROWS = 4096
"""Rows of a table that are looked at together."""
ROWS_MULTIPLE = 8
"""The number of rows is rounded up to a multiple of this, because others slow half-precision products down."""


@dataclass(frozen=True)
class RowChange:
    """What `fit_embeddings` changed in a model.

    Attributes:
        rows_before: V before.
        rows_after: V after.
        new_ids: Ids of tokens that were added.
        untrained_ids: Ids of tokens that existed, whose rows looked untrained and were re-initialised.
        missing_ids: Ids of tokens that the tokenizer had and the embedding had no row for.
        notes: What changed in generation_config, one line each.
        drawn: For a model without weights: new rows by their number, for the embedding and for a head of its own.
    """

    rows_before: int
    rows_after: int
    new_ids: tuple[int, ...]
    untrained_ids: tuple[int, ...]
    missing_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    drawn: Mapping[str, Mapping[int, torch.Tensor]] = field(default_factory=dict)

    @property
    def trained_ids(self) -> tuple[int, ...]:
        """Ids whose rows of embedding and head must train even if the rest is frozen (LoRA)."""
        return tuple(sorted({*self.new_ids, *self.untrained_ids, *self.missing_ids}))


def fit_embeddings(
    model: Any,
    tokenizer: Any,
    change: TokenChange,
    *,
    stop_ids: Sequence[int],
    seed: int = 0,
    stored: Mapping[str, RowReader] | None = None,
) -> RowChange:
    """Fit a model's embedding and head to a changed tokenizer; tied heads stay tied.

    Args:
        model: transformers' model, before adapters; changed in place, including its config and generation_config.
        tokenizer: The tokenizer after `add_chat_tokens`.
        change: The result of `add_chat_tokens`.
        stop_ids: All ids that end an answer; the first becomes the config's eos.
        seed: Seed of the new rows.
        stored: For a model on `meta`: readers of its tables' rows on the disk, in the type they will have, under
            ``embedding`` and ``head``. The new rows are then in `RowChange.drawn`.

    Returns:
        What changed.

    Raises:
        ModelError: If the model's embedding cannot be resized.
    """
    inner = underlying(model)
    rows_before = inner.get_input_embeddings().weight.shape[0]
    new_ids = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in change.added)
    old_ids = tuple(index for index in change.control_ids if index not in new_ids and index < rows_before)
    num_known = min(rows_before, len(tokenizer) - len(new_ids))
    read = {name: _reader(weight) for name, weight in _tables(inner).items()} if stored is None else stored
    untrained = {name: untrained_rows(read[name], old_ids, num_known) for name in _tables(inner)}
    add_rows(inner, len(tokenizer))
    rows_after = inner.get_input_embeddings().weight.shape[0]
    drawn: dict[str, dict[int, torch.Tensor]] = {}
    for name, weight in _tables(inner).items():
        chosen = sorted({*new_ids, *untrained[name]})
        if stored is None:
            _draw_rows(weight, chosen, num_known=num_known, seed=seed)
            continue
        filled = range(rows_before, rows_after)  # what `add_rows` draws on a model with weights
        rows = _drawn(stored[name], filled, num_known=rows_before, seed=0).to(weight.dtype)
        drawn[name] = dict(zip(filled, rows, strict=True))
        rows = _drawn(stored[name], chosen, num_known=num_known, seed=seed).to(weight.dtype)
        drawn[name] |= dict(zip(chosen, rows, strict=True))
    _fill_bias(inner, new_ids)
    notes = set_stop_ids(inner, stop_ids, pad_id=tokenizer.pad_token_id)
    untrained_ids = tuple(sorted({index for ids in untrained.values() for index in ids}))
    missing_ids = tuple(index for index in rowless_ids(tokenizer, rows_before) if index not in new_ids)
    return RowChange(rows_before, rows_after, new_ids, untrained_ids, missing_ids, notes, drawn)


def rowless_ids(tokenizer: Any, num_rows: int) -> tuple[int, ...]:
    """Return the ids of a tokenizer's tokens that an embedding of `num_rows` rows has no row for."""
    return tuple(sorted({index for index in tokenizer.get_vocab().values() if index >= num_rows}))


def untrained_ids(model: Any, ids: Iterable[int]) -> tuple[int, ...]:
    """Return those ids whose rows, in the embedding or the head, look as if they had never been trained.

    A row looks untrained in three cases: its norm is under a tenth of the median; its distance from the mean row is
    under a tenth of the median distance; another row equals it.
    """
    inner = underlying(model)
    ids = tuple(ids)
    tables = _tables(inner).values()
    untrained = {index for weight in tables for index in untrained_rows(_reader(weight), ids, weight.shape[0])}
    return tuple(sorted(untrained))


def _tables(model: Any) -> dict[str, torch.Tensor]:
    """Return the [V, D] weights with a row for each token: the embedding's, and the head's if it is another tensor."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tables = {"embedding": embedding}
    if head is not None and head.weight is not embedding:
        tables["head"] = head.weight
    return tables


def _reader(weight: torch.Tensor) -> RowReader:
    """Return the reader of a table in memory."""
    return lambda first, last: weight.detach()[first:last]


@torch.no_grad()
def untrained_rows(read: RowReader, ids: Sequence[int], num_known: int) -> tuple[int, ...]:
    """Return the ids whose rows look untrained; the table is looked at block by block, and is never copied."""
    if not ids:
        return ()

    def by_block(measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        # Padding rows of zeros, from num_known on, would shift the mean.
        starts = range(0, num_known, BLOCK_ROWS)
        return torch.cat([measure(read(start, min(start + BLOCK_ROWS, num_known)).float()) for start in starts])

    norms = by_block(lambda rows: rows.norm(dim=1))
    ordinary = norms > 0.1 * norms.median()
    sums, first = [], 0
    for part in torch.split(ordinary, BLOCK_ROWS):
        sums.append(read(first, first + part.shape[0])[part].double().sum(0))
        first += part.shape[0]
    mean = (torch.stack(sums).sum(0) / ordinary.sum()).float()
    distances = by_block(lambda rows: (rows - mean).norm(dim=1))
    usual_norm, usual_distance = norms.median(), distances[ordinary].median()
    chosen = torch.cat([read(index, index + 1).float() for index in ids])
    limits = (1e-3 * chosen.norm(dim=1)).clamp_min(1e-15)
    twins = by_block(
        lambda rows: (
            torch.stack([(rows - row).norm(dim=1).le(limit) for row, limit in zip(chosen, limits, strict=True)]).T
        )
    ).sum(0)
    untrained = []
    for index, row, num_twins in zip(ids, chosen, twins.tolist(), strict=True):
        if row.norm() < 0.1 * usual_norm or (row - mean).norm() < 0.1 * usual_distance or num_twins > 1:
            untrained.append(index)
    return tuple(untrained)


def add_rows(model: Any, num_tokens: int) -> None:
    """Extend embedding and head to at least `num_tokens` rows, a multiple of 8; tied heads stay tied.

    Rows beyond the tokens take part in the softmax although they may never train. They are drawn with a fixed seed, so
    an adapter opened on its base finds the rows that it was trained with.

    Raises:
        ModelError: If the model's embedding cannot be resized.
    """
    before = model.get_input_embeddings().weight.shape[0]
    if num_tokens <= before:
        return
    rows = -(-num_tokens // ROWS_MULTIPLE) * ROWS_MULTIPLE
    try:
        model.resize_token_embeddings(rows, mean_resizing=False)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(
            f"{type(model).__name__}: its embedding cannot hold new chat tokens ({error}). "
            "Set model.stop_token: eos, or choose a template whose tokens the model has."
        ) from None
    for weight in _tables(model).values():
        _draw_rows(weight, range(before, weight.shape[0]), num_known=before, seed=0)


@torch.no_grad()
def _draw_rows(weight: torch.Tensor, rows: Sequence[int], *, num_known: int, seed: int) -> None:
    """Draw rows of a table in memory, in place."""
    if rows and not weight.is_meta:
        weight[list(rows)] = _drawn(_reader(weight), rows, num_known=num_known, seed=seed).to(weight.dtype)


@torch.no_grad()
def _drawn(read: RowReader, rows: Sequence[int], *, num_known: int, seed: int) -> torch.Tensor:
    """Draw rows [K, D] from the normal distribution with the mean and covariance of the known rows, in fp32.

    The N centred rows, summed with independent normal factors over sqrt(N), have exactly that covariance. No D x D
    matrix is needed. One fp32 copy of the table exists meanwhile.
    """
    if not rows:
        return read(0, 0).float()
    known = torch.ones(num_known, dtype=torch.bool)
    known[[row for row in rows if row < num_known]] = False
    old = _take(read, known)
    norms = old.norm(dim=1)
    ordinary = norms > 0.1 * norms.median()
    if not ordinary.all():
        old = _take(lambda first, last: old[first:last], ordinary.cpu(), into=old)
    mean = old.mean(0)
    old -= mean
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(len(rows), old.shape[0], generator=generator).to(old.device)
    drawn: torch.Tensor = mean + factors @ old / old.shape[0] ** 0.5
    return drawn


def _take(read: RowReader, which: torch.Tensor, *, into: torch.Tensor | None = None) -> torch.Tensor:
    """Return the chosen rows of a table in fp32, copied block by block.

    Args:
        read: The table.
        which: Whether each row is chosen.
        into: Where they go; may be the table itself, whose rows then move up.
    """
    count, first = 0, 0
    for part in torch.split(which, BLOCK_ROWS):
        rows = read(first, first + part.shape[0])
        rows = rows[part.to(rows.device)].float()
        if into is None:
            into = rows.new_empty(int(which.sum()), rows.shape[1])
        into[count : count + rows.shape[0]] = rows
        count, first = count + rows.shape[0], first + part.shape[0]
    assert into is not None
    return into[:count]


@torch.no_grad()
def _fill_bias(model: Any, new_ids: Sequence[int]) -> None:
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None and new_ids:
        known = torch.ones(bias.shape[0], dtype=torch.bool)
        known[list(new_ids)] = False
        bias[list(new_ids)] = bias[known.to(bias.device)].mean()
