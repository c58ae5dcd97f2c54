"""The attention of one new token a row."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from instil.generation.decoder.kernels.attention_code import NAME, attention_module, queries_together
from instil.generation.decoder.kernels.machine import IS_BF16, address, compiled, registers

_WORTH_THREADS = 4096
"""Columns of all heads from which on threads take less time than it takes to start them."""


def can_attend(width: int, dtype: torch.dtype) -> bool:
    """Return whether `Attention` takes heads of this width and type on this machine."""
    return dtype in IS_BF16 and (here := registers()) is not None and width % (2 * here.lanes) == 0


class Attention:
    """The attention of one step, for all layers. M rows, H heads, K key-value heads, C columns of the cache, D width.

    Args:
        lengths: The filled columns of each row, before this step.
        cos: [positions, D].
        sin: [positions, D], the first half negated.
        num_heads: H.
        num_kv: K.
        eps: Of the norms of queries and keys.
    """

    def __init__(
        self, lengths: Sequence[int], *, cos: Tensor, sin: Tensor, num_heads: int, num_kv: int, eps: float
    ) -> None:
        here = registers()
        assert here is not None
        self._lengths, self._cos, self._sin, self._eps = torch.tensor(lengths), cos, sin, eps
        self._num_heads, num_rows, width = num_heads, len(lengths), cos.shape[1]
        self._room = -(-(max(lengths) + 1) // here.lanes) * here.lanes
        self._queries = torch.empty(num_rows, num_heads, width)
        together = queries_together(here.lanes)
        blocks = -(-(num_heads // num_kv) // together)
        self._scores = torch.empty(num_rows * num_kv * blocks * together, self._room)
        worth = num_rows * num_heads * self._room >= _WORTH_THREADS
        self._threads = torch.get_num_threads() if worth else 1

    def __call__(self, heads: Tensor, norm: Tensor | None, keys: Tensor, values: Tensor) -> Tensor:
        """Write the keys and values of one layer's new tokens, and return what their queries gather, [M, H D].

        Args:
            heads: [M, (H + 2K) D]: queries, keys and values.
            norm: [H + K, D], the weights of the norms of queries and keys, or None.
            keys: The cache of the layer, [at least M, K, C, D].
            values: Likewise.
        """
        num_rows, width = heads.shape[0], keys.shape[-1]
        _, num_kv, columns, _ = keys.shape
        heads = heads.contiguous()
        result = heads.new_empty(num_rows, self._num_heads * width)
        _attention(width, heads.dtype)(
            heads.data_ptr(), address(norm), self._cos.data_ptr(), self._sin.data_ptr(), self._lengths.data_ptr(),
            keys.data_ptr(), values.data_ptr(), result.data_ptr(), self._queries.data_ptr(), self._scores.data_ptr(),
            num_rows, self._num_heads, num_kv, columns, self._room, self._eps, self._threads,
        )  # fmt: skip
        return result


def compile_attention(width: int, dtype: torch.dtype) -> None:
    """Compile the attention of heads for which `can_attend` is true, in about 40 ms."""
    _attention(width, dtype)


@functools.cache
def _attention(width: int, dtype: torch.dtype) -> Callable[..., None]:
    here = registers()
    assert here is not None
    kinds: list[Any] = [ctypes.c_void_p] * 10 + [ctypes.c_int64] * 5 + [ctypes.c_float, ctypes.c_int32]
    module = attention_module(width, bf16=IS_BF16[dtype], registers=here)
    return ctypes.CFUNCTYPE(None, *kinds)(compiled(module)(NAME))
