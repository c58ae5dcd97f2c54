"""The arithmetic of plain layers: one token of one row, one token of many rows, or pieces of prompts.

Shapes: B rows, N tokens, E width, H heads, K key-value heads, G = H / K, D width of a head, V vocabulary.

Why: three functions instead of one. A row that is alone multiplies matrices by a vector, which reads weights fastest;
many rows share the reads; a prompt needs a causal mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from instil.generation.decoder.prefixes import Prefixes
from instil.generation.decoder.slots import Slots
from instil.generation.decoder.weights import LayerWeights, PlainWeights

_FIRST_POSITIONS = 512
_ROWS_FOR_BLOCKS, _BLOCK = range(3, 13), 64
_ROWS_FOR_ONEDNN = range(4, 33)
_HAS_MKL = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Write the keys and values of a layer's tokens, and return what their queries gather: [N, H D]."""


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

    def one(self, token: Tensor, slots: Slots) -> Tensor:
        """Append a token, [1], to the only row; return the logits [1, V] of the next one."""
        weights, position = self._weights, slots.lengths[0]
        slots.reserve(1, position + 1)
        self._reach(position + 1)
        cos, sin = self._cos[position], self._sin[position]
        turned = self._heads + self._kv_heads
        x = weights.embedding[token[0]]
        for layer, keys, values in zip(weights.layers, slots.keys, slots.values, strict=True):
            hidden = self._norm(x, layer.input_norm)
            if layer.qkv_bias is None:
                heads = torch.mv(layer.qkv, hidden).view(-1, self._width)
            else:
                heads = torch.addmv(layer.qkv_bias, layer.qkv, hidden).view(-1, self._width)
            queries_keys = self._rotated(heads[:turned], layer, cos, sin)
            keys[0, :, position] = queries_keys[self._heads :]
            values[0, :, position] = heads[turned:]
            # The heads that share a key-value head stand side by side, as if they were several queries of one head.
            attended = functional.scaled_dot_product_attention(
                queries_keys[: self._heads].view(1, self._kv_heads, -1, self._width),
                keys[:1, :, : position + 1],
                values[:1, :, : position + 1],
            )
            x = torch.addmv(x, layer.output, attended.reshape(-1))
            gate, up = torch.mv(layer.gate_up, self._norm(x, layer.mlp_norm)).chunk(2)
            x = torch.addmv(x, layer.down, functional.silu(gate).mul_(up))
        slots.lengths[0] = position + 1
        return torch.mv(weights.head, self._norm(x, weights.norm))[None]

    def many(self, tokens: Tensor, slots: Slots) -> Tensor:
        """Append one token a row, [B]; return the logits [B, V] of the next ones."""
        weights, rows = self._weights, len(slots.lengths)
        width = max(slots.lengths) + 1
        slots.reserve(rows, width)
        self._reach(width)
        positions, places = torch.tensor(slots.lengths), torch.arange(rows)
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        # Shorter rows do not see the columns behind their newest token.
        mask = None
        if min(slots.lengths) + 1 < width:
            unseen = torch.arange(width) > positions[:, None]
            mask = torch.zeros(rows, width, dtype=self._dtype).masked_fill_(unseen, -torch.inf)[:, None, None]

        def attend(queries: Tensor, fresh_keys: Tensor, fresh_values: Tensor, layer: int) -> Tensor:
            keys, values = slots.keys[layer], slots.values[layer]
            keys[places, :, positions], values[places, :, positions] = fresh_keys, fresh_values
            return functional.scaled_dot_product_attention(
                queries.reshape(rows, self._kv_heads, -1, self._width),
                keys[:rows, :, :width],
                values[:rows, :, :width],
                attn_mask=mask,
            ).reshape(rows, -1)

        x = weights.embedding[tokens]
        for number, layer in enumerate(weights.layers):
            x = self._layer(x, layer, number, cos, sin, attend)
        slots.lengths = [length + 1 for length in slots.lengths]
        return self._logits(x)

    def read(self, pieces: Sequence[Piece], slots: Slots) -> Tensor:
        """Append pieces of prompts, each to its row; return the logits [B, V] behind the end of each piece."""
        weights = self._weights
        starts = [slots.lengths[piece.row] for piece in pieces]
        ends = [start + len(piece.ids) for start, piece in zip(starts, pieces, strict=True)]
        slots.reserve(len(slots.lengths), max(ends))
        self._reach(max(ends))
        positions = torch.cat([torch.arange(start, end) for start, end in zip(starts, ends, strict=True)])
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        sizes = [len(piece.ids) for piece in pieces]
        masks = [_seen_mask(start, end) for start, end in zip(starts, ends, strict=True)]

        def attend(queries: Tensor, fresh_keys: Tensor, fresh_values: Tensor, layer: int) -> Tensor:
            keys, values = slots.keys[layer], slots.values[layer]
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
        for number, layer in enumerate(weights.layers):
            x = self._layer(x, layer, number, cos, sin, attend)
        for piece, end in zip(pieces, ends, strict=True):
            slots.lengths[piece.row] = end
        return self._logits(x[torch.tensor(sizes).cumsum(0) - 1])

    def _layer(self, x: Tensor, layer: LayerWeights, number: int, cos: Tensor, sin: Tensor, attend: _Attend) -> Tensor:
        """Return one layer's output for tokens [N, E] with their rotary positions [N, 1, D]."""
        turned = self._heads + self._kv_heads
        heads = self._product(self._norm(x, layer.input_norm), layer.qkv)
        if layer.qkv_bias is not None:
            heads = heads + layer.qkv_bias
        # Contiguous: attention is computed step by step where the numbers of a head do not lie side by side.
        heads = heads.contiguous().view(x.shape[0], -1, self._width)
        queries_keys = self._rotated(heads[:, :turned], layer, cos, sin)
        attended = attend(queries_keys[:, : self._heads], queries_keys[:, self._heads :], heads[:, turned:], number)
        x = x + self._product(attended, layer.output)
        gate, up = self._product(self._norm(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return x + self._product(functional.silu(gate) * up, layer.down)

    def _logits(self, x: Tensor) -> Tensor:
        return self._product(self._norm(x, self._weights.norm), self._weights.head)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return ``x @ weight.T``, [N, E] by [O, E].

        Why: in bf16 the weight is the left factor. oneDNN then reads it as it lies; as the right one it is reordered in
        each call, which took 1.3 to 1.9 times as long for 2 to 512 tokens. In fp32 `linear` calls MKL, which slows down
        with the height of the weight. By blocks of its rows a weight is read 1.1 to 1.7 times as fast for 3 to 12 rows of
        `x`; oneDNN is ahead of both for 13 to 32 (notes of 2026-11-30).
        """
        if self._dtype == torch.float32:
            rows = x.shape[0]
            if _HAS_MKL and rows in _ROWS_FOR_BLOCKS and weight.shape[0] % _BLOCK == 0:
                blocks = weight.view(-1, _BLOCK, weight.shape[1])
                products = torch.bmm(x.expand(blocks.shape[0], -1, -1), blocks.transpose(1, 2))
                return products.transpose(0, 1).reshape(rows, -1)
            if _HAS_ONEDNN and rows in _ROWS_FOR_ONEDNN:
                product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
                return product
            return functional.linear(x, weight)
        return torch.mm(weight, x.t()).t()

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the RMS norm over the last dimension, computed in fp32.

        Why: torch's own takes 75 to 90 us for a token on a CPU, one tenth of a step in bf16; this takes a third of it.
        """
        width = x.shape[-1]
        if x.ndim == 1:
            wide = x.float()
            normed = wide / math.sqrt(torch.dot(wide, wide).item() / width + self._weights.eps)
        else:
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
            normed = x * torch.rsqrt(torch.addcmul(self._eps, length, length, value=1 / width))
        return normed.to(self._dtype).mul_(weight)

    def _rotated(self, heads: Tensor, layer: LayerWeights, cos: Tensor, sin: Tensor) -> Tensor:
        """Return queries and keys [..., H + K, D], normed where the layer does so, and turned by their positions."""
        if layer.qk_norm is not None:
            heads = functional.rms_norm(heads, (self._width,), None, self._weights.eps) * layer.qk_norm
        return torch.addcmul(heads * cos, heads.roll(self._width // 2, -1), sin)

    def _reach(self, num_positions: int) -> None:
        """Make the tables of the model's own rotary positions long enough."""
        reached = self._cos.shape[0]
        if num_positions > reached:
            positions = torch.arange(max(num_positions, 2 * reached, _FIRST_POSITIONS))
            cos, sin = self._weights.rotary(self._weights.embedding[:1], positions[None])
            half = self._width // 2
            # The sign of the first half belongs to the turn: (-second, first).
            self._cos, self._sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)


def _seen_mask(start: int, end: int) -> Tensor | None:
    """Return which columns the tokens of a piece see, [N, end]; None at the start of a prompt, where it is causal."""
    if not start:
        return None
    return torch.arange(end) <= torch.arange(start, end)[:, None]
