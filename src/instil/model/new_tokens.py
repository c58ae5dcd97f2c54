"""Makes a model's embedding and head fit a tokenizer that `add_chat_tokens` has changed.

Rows of template tokens that exist but were never trained (``<|eot_id|>`` of Llama 3 base) are found, re-initialised and
reported like new ones.

Why: new rows are drawn with the mean and the full covariance of the old ones. transformers draws near-copies of the
mean instead, so that new tokens would hardly differ at first.

Shapes: V rows, D width, K new rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.chat_tokens import TokenChange
from instil.model.folder.generation_config import set_stop_ids
from instil.model.underlying import underlying

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
    """

    rows_before: int
    rows_after: int
    new_ids: tuple[int, ...]
    untrained_ids: tuple[int, ...]
    missing_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def trained_ids(self) -> tuple[int, ...]:
        """Ids whose rows of embedding and head must train even if the rest is frozen (LoRA)."""
        return tuple(sorted({*self.new_ids, *self.untrained_ids, *self.missing_ids}))


def fit_embeddings(
    model: Any, tokenizer: Any, change: TokenChange, *, stop_ids: Sequence[int], seed: int = 0
) -> RowChange:
    """Fit a model's embedding and head to a changed tokenizer; tied heads stay tied.

    Args:
        model: transformers' model, before adapters; changed in place, including its config and generation_config.
        tokenizer: The tokenizer after `add_chat_tokens`.
        change: The result of `add_chat_tokens`.
        stop_ids: All ids that end an answer; the first becomes the config's eos.
        seed: Seed of the new rows.

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
    untrained = {name: _untrained(weight, old_ids, num_known) for name, weight in _tables(inner).items()}
    add_rows(inner, len(tokenizer))
    for name, weight in _tables(inner).items():
        _draw_rows(weight, sorted({*new_ids, *untrained[name]}), num_known=num_known, seed=seed)
    _fill_bias(inner, new_ids)
    notes = set_stop_ids(inner, stop_ids, pad_id=tokenizer.pad_token_id)
    rows_after = inner.get_input_embeddings().weight.shape[0]
    untrained_ids = tuple(sorted({index for ids in untrained.values() for index in ids}))
    missing_ids = tuple(index for index in rowless_ids(tokenizer, rows_before) if index not in new_ids)
    return RowChange(rows_before, rows_after, new_ids, untrained_ids, missing_ids, notes)


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
    untrained = {index for weight in _tables(inner).values() for index in _untrained(weight, ids, weight.shape[0])}
    return tuple(sorted(untrained))


def _tables(model: Any) -> dict[str, torch.Tensor]:
    """Return the [V, D] weights with a row for each token: the embedding's, and the head's if it is another tensor."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tables = {"embedding": embedding}
    if head is not None and head.weight is not embedding:
        tables["head"] = head.weight
    return tables


@torch.no_grad()
def _untrained(weight: torch.Tensor, ids: Sequence[int], num_known: int) -> tuple[int, ...]:
    if not ids:
        return ()
    # Padding rows of zeros would shift the mean.
    rows = weight[:num_known].float()
    norms = rows.norm(dim=1)
    ordinary = norms > 0.1 * norms.median()
    mean = rows[ordinary].mean(0)
    usual_norm, usual_distance = norms.median(), (rows[ordinary] - mean).norm(dim=1).median()
    untrained = []
    for index in ids:
        row = weight[index].float()
        twins = int((rows - row).norm(dim=1).le(1e-3 * max(float(row.norm()), 1e-12)).sum())
        if row.norm() < 0.1 * usual_norm or (row - mean).norm() < 0.1 * usual_distance or twins > 1:
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
    """Draw rows from the normal distribution with the mean and covariance of the known rows.

    The N centred rows, summed with independent normal factors over sqrt(N), have exactly that covariance. No D x D
    matrix is needed.
    """
    if not rows or weight.is_meta:
        return
    known = torch.ones(weight.shape[0], dtype=torch.bool)
    known[num_known:] = False
    known[list(rows)] = False
    old = weight[known.to(weight.device)].float()
    norms = old.norm(dim=1)
    old = old[norms > 0.1 * norms.median()]
    mean = old.mean(0)
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(len(rows), old.shape[0], generator=generator).to(old.device)
    drawn = mean + factors @ (old - mean) / old.shape[0] ** 0.5
    weight[list(rows)] = drawn.to(weight.dtype)


@torch.no_grad()
def _fill_bias(model: Any, new_ids: Sequence[int]) -> None:
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None and new_ids:
        known = torch.ones(bias.shape[0], dtype=torch.bool)
        known[list(new_ids)] = False
        bias[list(new_ids)] = bias[known.to(bias.device)].mean()
