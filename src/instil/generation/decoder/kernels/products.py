"""Products of a few rows with a weight."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from instil.generation.decoder.kernels.ends_code import BEHIND, FRONT, GATED, NORMED, PLAIN, ends_module
from instil.generation.decoder.kernels.machine import IS_BF16, address, compiled, publish, registers
from instil.generation.decoder.kernels.product_code import LEAST_HEIGHT, NAME, UNIT, product_module
from instil.generation.decoder.kernels.vectors import Registers

_MOST_ROWS = {torch.float32: 16, torch.bfloat16: 8}
"""By vector registers. For more rows libraries are faster."""
_ROWS_BY_TILES = range(5, 17)
_WORTH_THREADS = 1 << 16
"""Numbers of a weight from which on threads take less time than it takes to start them."""


def can_multiply(num_rows: int, weight: Tensor) -> bool:
    """Return whether `multiply` takes rows of this number, and this weight, on this machine."""
    here = registers()
    if here is None or weight.dtype not in IS_BF16 or not weight.is_contiguous():
        return False
    height, width = weight.shape
    if height < LEAST_HEIGHT or width % (2 * here.lanes):
        return False
    # A register for each sum, and some to load into.
    by_vectors = num_rows <= min(_MOST_ROWS[weight.dtype], here.count - 3)
    return by_vectors or _by_tiles(num_rows, weight)


def _by_tiles(num_rows: int, weight: Tensor) -> bool:
    here = registers()
    fits = num_rows in _ROWS_BY_TILES and weight.dtype == torch.bfloat16 and weight.shape[0] % UNIT == 0
    return here is not None and here.tiles and fits


def compile_products(weight: Tensor) -> None:
    """Compile the products with weights of this type for all numbers of rows, 20 ms each."""
    for num_rows in range(1, max(*_MOST_ROWS.values(), _ROWS_BY_TILES[-1]) + 1):
        if can_multiply(num_rows, weight):
            _product(num_rows, weight.dtype, tiles=_by_tiles(num_rows, weight))


def multiply(
    x: Tensor,
    weight: Tensor,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    gated: bool = False,
    added: Tensor | None = None,
) -> Tensor:
    """Return ``rms_norm(x) @ weight.T + added``, each of both only where it is given.

    Args:
        x: [M, K].
        weight: [O, K], for which `can_multiply` is true.
        norm: [K], the weights of the norm, contiguous and of the type of `x`.
        eps: Of the norm.
        gated: `x` is [M, 2K], and the weight is multiplied with ``silu(x[:, :K]) * x[:, K:]``.
        added: [O] or [M, O].
    """
    num_rows, (height, width) = x.shape[0], weight.shape
    x = x.contiguous()
    added = None if added is None else added.contiguous()
    result = x.new_empty(num_rows, height)
    scratch = x.new_empty(num_rows, width, dtype=torch.float32)
    # Not the result itself, also in fp32: a thread may compute a few rows of another one's share again.
    sums = x.new_empty(num_rows, height, dtype=torch.float32)
    front = GATED if gated else PLAIN if norm is None else NORMED
    stride = 0 if added is None or added.ndim == 1 else height
    _product(num_rows, x.dtype, tiles=_by_tiles(num_rows, weight))(
        x.data_ptr(), address(norm), weight.data_ptr(), address(added), result.data_ptr(), scratch.data_ptr(),
        sums.data_ptr(), height, width, stride, eps, front, _num_threads(weight),
    )  # fmt: skip
    return result


def _num_threads(weight: Tensor) -> int:
    return torch.get_num_threads() if weight.numel() >= _WORTH_THREADS else 1


@functools.cache
def _product(num_rows: int, dtype: torch.dtype, *, tiles: bool) -> Callable[..., None]:
    here, bf16 = registers(), IS_BF16[dtype]
    assert here is not None
    front, behind = _ends(dtype, here, tiles=tiles)
    module = product_module(num_rows, bf16=bf16, registers=here, front=front, behind=behind, tiles=tiles)
    kinds = [ctypes.c_void_p] * 7 + [ctypes.c_int64] * 3 + [ctypes.c_float] + [ctypes.c_int32] * 2
    return ctypes.CFUNCTYPE(None, *kinds)(compiled(module)(NAME))


@functools.cache
def _ends(dtype: torch.dtype, here: Registers, *, tiles: bool) -> tuple[str, str]:
    """Compile what stands in front of products and behind them; return the symbols of both."""
    address_of = compiled(ends_module(bf16=IS_BF16[dtype], registers=here, tiles=tiles))
    symbols = []
    for name in (FRONT, BEHIND):
        symbols.append(f"instil_{name}_{dtype}_{here.lanes}_{tiles}")
        publish(symbols[-1], address_of(name))
    return symbols[0], symbols[1]
