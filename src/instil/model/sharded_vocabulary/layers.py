"""An embedding and a head of which each process holds some rows.

FSDP gathers a unit's weights whole before it computes. For a table of V rows this takes twice the table in each
process, whatever the number of processes. Here the table stays where it is: ids and states travel instead, and each
process computes with its own rows for all of them.

Why: a micro-batch has some thousand states, a vocabulary up to 250 thousand rows of the same width. States are also
less to send.

Shapes: R processes, T tokens of this process, D width, V vocabulary, S rows of this process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from instil.errors import ModelError
from instil.model.parts import take_apart
from instil.model.sharded_vocabulary.exchange import Route, gathered, largest, rows_of, rows_of_each, swapped
from instil.model.underlying import underlying

ROWS_SCORED = 16
"""States of each process that the head scores at once, where all scores are wanted."""


class ShardedEmbedding(nn.Embedding):
    """An embedding whose weight is a DTensor of rows; `shard_vocabulary` gives this class to the model's own.

    Attributes:
        computes_in: Type of what it returns.
    """

    computes_in: torch.dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of this process's ids; every process has to call it."""
        rows_each, padding = rows_of_each(self.num_embeddings), self.padding_idx
        values = _Lookup.apply(_local(self.weight), input.reshape(-1), rows_each, padding, self.computes_in)  # type: ignore[no-untyped-call]
        return values.view(*input.shape, self.embedding_dim)  # type: ignore[no-any-return]


class _Lookup(torch.autograd.Function):
    """Rows of a table by their ids, from whichever process holds them."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, ids: torch.Tensor, rows_each: int, padding: int | None, dtype: torch.dtype
    ) -> torch.Tensor:
        route = Route.of(ids, rows_each)
        places = route.asked - dist.get_rank() * rows_each
        ctx.route, ctx.places, ctx.rows, ctx.padding = route, places, rows, padding
        return route.answer(rows.index_select(0, places).to(dtype))

    @staticmethod
    def backward(ctx: Any, *incoming: torch.Tensor) -> Any:
        gradients = ctx.route.return_gradients(incoming[0]).to(ctx.rows.dtype)
        if ctx.padding is not None:  # as torch's own embedding: the padding's row does not train
            gradients.masked_fill_((ctx.route.asked == ctx.padding)[:, None], 0.0)
        total = torch.zeros_like(ctx.rows).index_add_(0, ctx.places, gradients)
        return total, None, None, None, None


class ShardedHead(nn.Linear):
    """A head without bias whose weight is a DTensor of rows; training computes its loss in `model.loss.sharded_head`.

    Attributes:
        computes_in: Type of the states that it takes.
    """

    computes_in: torch.dtype

    def local_rows(self) -> torch.Tensor:
        """Return the rows of this process [S, D], in their stored type; differentiable."""
        return _local(self.weight)

    @torch.no_grad()
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return all scores [..., V] of this process's states, without a gradient; every process has to call it."""
        states = input.reshape(-1, self.in_features)
        scores = states.new_empty(states.shape[0], self.out_features)
        weight = self.local_rows().to(states.dtype)
        for start in range(0, largest(states.shape[0], states.device), ROWS_SCORED):
            block = slice(start, start + ROWS_SCORED)
            scores[block] = self._scores_of(states[block], weight)
        return scores.view(*input.shape[:-1], self.out_features)

    def _scores_of(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the scores of at most `ROWS_SCORED` states; a process that has none left takes part."""
        count, rows_each = states.shape[0], rows_of_each(self.out_features)
        everyones = gathered(F.pad(states, (0, 0, 0, ROWS_SCORED - count))).flatten(0, 1)
        part = everyones @ weight.t()
        part = F.pad(part, (0, rows_each - part.shape[1])).view(-1, ROWS_SCORED, rows_each)
        return swapped(part)[:, :count].transpose(0, 1).flatten(1)[:, : self.out_features]


def _local(weight: torch.Tensor) -> torch.Tensor:
    rows: Any = weight
    return rows.to_local()  # type: ignore[no-any-return]


def can_shard_vocabulary(model: nn.Module) -> bool:
    """Return whether a model's embedding and head are plain tables, which may lie in rows over the processes.

    Adapters on them, rows of new tokens, biases, and what scales or caps the scores need the whole table.
    """
    parts, embedding = take_apart(model), underlying(model).get_input_embeddings()
    is_plain = type(embedding) is nn.Embedding and embedding.max_norm is None and not embedding.scale_grad_by_freq
    return is_plain and type(parts.head) is nn.Linear and parts.head.bias is None and parts.adjust.is_identity


def shard_vocabulary(model: nn.Module, mesh: Any, *, compute: torch.dtype, device: torch.device) -> set[nn.Parameter]:
    """Leave each process its rows of embedding and head, in place; a tied head stays tied.

    Args:
        model: A model of which `can_shard_vocabulary` holds. Its tables may be on `meta`: the rows are then not filled.
        mesh: FSDP's mesh of all processes.
        compute: Type of the arithmetic.
        device: Where the rows go.

    Returns:
        The parameters that now lie in rows.
    """
    embedding: Any = underlying(model).get_input_embeddings()
    head: Any = take_apart(model).head
    whole = {id(layer.weight): layer.weight for layer in (embedding, head)}
    rows = {key: _rows_of(weight, mesh, device) for key, weight in whole.items()}
    for layer, kind in ((embedding, ShardedEmbedding), (head, ShardedHead)):
        layer.__class__ = kind
        layer.computes_in = compute
        layer._parameters["weight"] = rows[id(layer.weight)]
    return set(rows.values())


def _rows_of(weight: nn.Parameter, mesh: Any, device: torch.device) -> nn.Parameter:
    """Return this process's rows of a table as a parameter."""
    from torch.distributed.tensor import DTensor, Shard  # slow to import

    if weight.ndim != 2:
        raise ModelError(f"a table of shape {tuple(weight.shape)} has no rows to share. Expected [V, D].")
    start, stop = rows_of(dist.get_rank(), weight.shape[0])
    local = torch.empty(stop - start, weight.shape[1], dtype=weight.dtype, device=device)
    if not weight.is_meta:
        local.copy_(weight.detach()[start:stop])
    table = DTensor.from_local(
        local, mesh, [Shard(0)], run_check=False, shape=weight.shape, stride=(weight.shape[1], 1)
    )
    return nn.Parameter(table, requires_grad=weight.requires_grad)
