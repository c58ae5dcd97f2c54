"""The arithmetic of plain layers: one token of each row, or pieces of prompts.

Shapes: B rows, N tokens, E width, H heads, K key-value heads, G = H / K, D width of a head, V vocabulary.

Why: two functions instead of one. A prompt needs a causal mask; most are multiplied by a library's products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from instil.generation.decoder.kernels.attention import Attention, can_attend, compile_attention
from instil.generation.decoder.kernels.machine import can_run_new_code
from instil.generation.decoder.kernels.products import can_multiply, compile_products, multiply
from instil.generation.decoder.prefixes import Prefixes
from instil.generation.decoder.slots import Slots
from instil.generation.decoder.weights import LayerWeights, PlainWeights

_FIRST_POSITIONS = 512
_ROWS_FOR_ONEDNN = range(4, 33)
_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_Attend: TypeAlias = Callable[[Tensor, LayerWeights, int], Tensor]
"""Take the heads [N, (H + 2K) D] of a layer's tokens, write their keys and values, and return what their queries gather:
[N, H D]. The last argument is the number of the layer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt that is read in one pass.

    Attributes:
        row: Its row.
        ids: Its tokens, which follow what the row's slot already holds.
    """

    row: int
    ids: Sequence[int]


class Steps:
    """The forward passes of one model. Call them under `torch.inference_mode`; they write the slots in place.

    Attributes:
        prefixes: What is kept of texts that `PlainRows` has read with them; None, as at first, keeps nothing.
    """

    def __init__(self, weights: PlainWeights) -> None:
        self._weights = weights
        self._heads, self._kv_heads, self._width = weights.num_heads, weights.num_kv_heads, weights.head_width
        self._dtype = weights.embedding.dtype
        self._eps = torch.tensor(weights.eps)
        self._cos = self._sin = torch.empty(0)
        self.prefixes: Prefixes | None = None

    def slots(self) -> Slots:
        """Return slots without a row."""
        weights = self._weights
        return Slots(len(weights.layers), num_heads=self._kv_heads, width=self._width, dtype=self._dtype)

    def compile(self) -> None:
        """Compile the code for all numbers of rows, in half a second. Otherwise the first step of each compiles it."""
        layer = self._weights.layers[0]
        for weight in (layer.qkv, layer.output, layer.gate_up, layer.down, self._weights.head):
            compile_products(weight)
        if can_attend(self._width, self._dtype):
            compile_attention(self._width, self._dtype)

    def step(self, tokens: Tensor, slots: Slots) -> Tensor:
        """Append one token a row, [B]; return the logits [B, V] of the next ones."""
        weights, width = self._weights, max(slots.lengths) + 1
        slots.reserve(len(slots.lengths), width)
        self._reach(width)
        attend = self._attend_compiled if can_attend(self._width, self._dtype) else self._attend_rows
        logits = self._logits(self._layers(weights.embedding[tokens], attend(slots)))
        slots.lengths = [length + 1 for length in slots.lengths]
        return logits

    def _attend_compiled(self, slots: Slots) -> _Attend:
        """Return the attention of one token a row by compiled code."""
        attention = Attention(
            slots.lengths,
            cos=self._cos,
            sin=self._sin,
            num_heads=self._heads,
            num_kv=self._kv_heads,
            eps=self._weights.eps,
        )
        return lambda heads, layer, number: attention(heads, layer.qk_norm, slots.keys[number], slots.values[number])

    def _attend_rows(self, slots: Slots) -> _Attend:
        """Return the attention of one token a row by torch's operations."""
        rows, width = len(slots.lengths), max(slots.lengths) + 1
        positions, places = torch.tensor(slots.lengths), torch.arange(rows)
        turns = self._turns(positions)
        # Shorter rows do not see the columns behind their newest token.
        mask = None
        if min(slots.lengths) + 1 < width:
            unseen = torch.arange(width) > positions[:, None]
            mask = torch.zeros(rows, width, dtype=self._dtype).masked_fill_(unseen, -torch.inf)[:, None, None]

        def attend(heads: Tensor, layer: LayerWeights, number: int) -> Tensor:
            queries, fresh_keys, fresh_values = self._parted(heads, layer, *turns)
            keys, values = slots.keys[number], slots.values[number]
            keys[places, :, positions], values[places, :, positions] = fresh_keys, fresh_values
            # The heads that share a key-value head stand side by side, as if they were several queries of one head.
            return functional.scaled_dot_product_attention(
                queries.reshape(rows, self._kv_heads, -1, self._width),
                keys[:rows, :, :width],
                values[:rows, :, :width],
                attn_mask=mask,
            ).reshape(rows, -1)

        return attend

    def read(self, pieces: Sequence[Piece], slots: Slots) -> Tensor:
        """Append pieces of prompts, each to its row; return the logits [B, V] behind the end of each piece."""
        weights = self._weights
        starts = [slots.lengths[piece.row] for piece in pieces]
        ends = [start + len(piece.ids) for start, piece in zip(starts, pieces, strict=True)]
        slots.reserve(len(slots.lengths), max(ends))
        self._reach(max(ends))
        positions = torch.cat([torch.arange(start, end) for start, end in zip(starts, ends, strict=True)])
        turns = self._turns(positions)
        sizes = [len(piece.ids) for piece in pieces]
        masks = [_seen_mask(start, end) for start, end in zip(starts, ends, strict=True)]

        def attend(heads: Tensor, layer: LayerWeights, number: int) -> Tensor:
            queries, fresh_keys, fresh_values = self._parted(heads, layer, *turns)
            keys, values = slots.keys[number], slots.values[number]
            outputs, first = [], 0
            for piece, start, end, size, mask in zip(pieces, starts, ends, sizes, masks, strict=True):
                tokens = slice(first, first + size)
                keys[piece.row, :, start:end] = fresh_keys[tokens].transpose(0, 1)
                values[piece.row, :, start:end] = fresh_values[tokens].transpose(0, 1)
                seen_keys, seen_values = keys[piece.row, :, :end][None], values[piece.row, :, :end][None]
                attended = functional.scaled_dot_product_attention(
                    queries[tokens].transpose(0, 1)[None],
                    seen_keys,
                    seen_values,
                    attn_mask=mask,
                    is_causal=mask is None,
                    enable_gqa=self._heads != self._kv_heads,
                )
                outputs.append(attended[0].transpose(0, 1).reshape(size, -1))
                first += size
            return torch.cat(outputs)

        x = weights.embedding[torch.tensor([token for piece in pieces for token in piece.ids])]
        x = self._layers(x, attend)
        for piece, end in zip(pieces, ends, strict=True):
            slots.lengths[piece.row] = end
        return self._logits(x[torch.tensor(sizes).cumsum(0) - 1])

    def _layers(self, x: Tensor, attend: _Attend) -> Tensor:
        """Return what the last layer makes of tokens [N, E]."""
        for number, layer in enumerate(self._weights.layers):
            heads = self._product(x, layer.qkv, norm=layer.input_norm, added=layer.qkv_bias)
            x = self._product(attend(heads, layer, number), layer.output, added=x)
            gate_up = self._product(x, layer.gate_up, norm=layer.mlp_norm)
            x = self._product(gate_up, layer.down, gated=True, added=x)
        return x

    def _logits(self, x: Tensor) -> Tensor:
        return self._product(x, self._weights.head, norm=self._weights.norm)

    def _product(
        self,
        x: Tensor,
        weight: Tensor,
        *,
        norm: Tensor | None = None,
        gated: bool = False,
        added: Tensor | None = None,
    ) -> Tensor:
        """Return ``rms_norm(x) @ weight.T + added``, [N, E] by [O, E]; each of both only where it is given.

        Where it is gated, `x` is [N, 2E], and its first half opens the second: ``silu(x[:, :E]) * x[:, E:]``.

        Why: few rows go through code that reads the weight at the memory's speed. Of torch's products the fastest are taken.
        In bf16 the weight is the left factor: as the right one oneDNN reorders it in each call, which took 1.3 to 1.9 times
        as long for 2 to 512 tokens. In fp32 `linear` calls MKL, and oneDNN is ahead of it for up to 32 rows.
        """
        if can_multiply(x.shape[0], weight):
            return multiply(x, weight, norm=norm, eps=self._weights.eps, gated=gated, added=added)
        if norm is not None:
            x = self._norm(x, norm)
        if gated:
            gate, up = x.chunk(2, dim=-1)
            x = functional.silu(gate).mul_(up)
        product: Tensor
        if x.shape[0] == 1:
            product = torch.mv(weight, x[0])[None]
        elif self._dtype != torch.float32:
            product = torch.mm(weight, x.t()).t()
        elif _HAS_ONEDNN and x.shape[0] in _ROWS_FOR_ONEDNN and can_run_new_code():
            product = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        else:
            product = functional.linear(x, weight)
        return product if added is None else product + added

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the RMS norm over the last dimension, computed in fp32.

        Why: torch's own takes 75 to 90 us for a token on a CPU, one tenth of a step in bf16; this takes a third of it.
        """
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        normed = x * torch.rsqrt(torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]))
        return normed.to(self._dtype).mul_(weight)

    def _turns(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines for tokens at positions [N], each [N, 1, D]."""
        return self._cos[positions][:, None], self._sin[positions][:, None]

    def _parted(self, heads: Tensor, layer: LayerWeights, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries [N, H, D], keys and values [N, K, D] of a layer; the first two are turned by their positions."""
        # Contiguous: attention is computed step by step where the numbers of a head do not lie side by side.
        heads = heads.contiguous().view(heads.shape[0], -1, self._width)
        queries_keys, values = heads[:, : -self._kv_heads], heads[:, -self._kv_heads :]
        if layer.qk_norm is not None:
            queries_keys = functional.rms_norm(queries_keys, (self._width,), None, self._weights.eps) * layer.qk_norm
        turned = torch.addcmul(queries_keys * cos, queries_keys.roll(self._width // 2, -1), sin)
        return turned[:, : self._heads], turned[:, self._heads :], values

    def _reach(self, num_positions: int) -> None:
        """Make the tables of the model's own rotary positions long enough."""
        reached = self._cos.shape[0]
        if num_positions > reached:
            positions = torch.arange(max(num_positions, 2 * reached, _FIRST_POSITIONS))
            cos, sin = self._weights.rotary(self._weights.embedding[:1], positions[None])
            half = self._width // 2
            # The sign of the first half belongs to the turn: (-second, first).
            self._cos, self._sin = cos[0].contiguous(), torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)


def _seen_mask(start: int, end: int) -> Tensor | None:
    """Return which columns the tokens of a piece see, [N, end]; None at the start of a prompt, where it is causal."""
    if not start:
        return None
    return torch.arange(end) <= torch.arange(start, end)[:, None]
