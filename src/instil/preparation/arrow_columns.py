"""Arrow columns of numbers, lists and texts, laid out here.

Used by `prepared.pack`. Questionable on purpose: ``pyarrow.array`` is not called, because its first call imports pandas where that is
installed, which takes longer than to prepare a thousand conversations; so does an array's ``to_numpy``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_KINDS: Mapping[str, type[np.generic]] = {"i": np.int32, "f": np.float32}


def flat(pieces: Sequence[Any], kind: Literal["i", "f"]) -> npt.NDArray[Any]:
    """Lay sequences of numbers end to end; lists go through `array`, which takes a third of numpy's time.

    Example:
        >>> flat([[1, 2], (3,)], "i").tolist()
        [1, 2, 3]
    """
    laid = array(kind)
    for piece in pieces:
        if isinstance(piece, list):
            laid.fromlist(piece)
        elif isinstance(piece, np.ndarray):
            laid.frombytes(piece.astype(_KINDS[kind]).tobytes())
        else:
            laid.extend(piece)
    return np.frombuffer(laid, dtype=_KINDS[kind]) if laid else np.zeros(0, dtype=_KINDS[kind])


def numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Give a column of numbers of the array's own type."""
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def numbers_or_none(values: Sequence[int | None], kind: type[np.generic]) -> pa.Array:
    """Give a column of numbers, some of them missing.

    Example:
        >>> numbers_or_none([4, None], np.int32).to_pylist()
        [4, None]
    """
    held = np.array([0 if value is None else value for value in values], dtype=kind)
    return pa.Array.from_buffers(pa.from_numpy_dtype(held.dtype), len(held), [_present(values), pa.py_buffer(held)])


def texts(values: Sequence[str | None]) -> pa.Array:
    """Give a column of texts, some of them missing.

    Example:
        >>> texts(["é", None, ""]).to_pylist()
        ['é', None, '']
    """
    written = [b"" if value is None else value.encode("utf-8") for value in values]
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in written], dtype=np.int64))).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [_present(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(written))]
    )


def lists(offsets: npt.NDArray[Any], values: npt.NDArray[Any]) -> pa.Array:
    """Give a column of lists: their values end to end, and where each begins.

    Example:
        >>> lists(np.array([0, 2, 2]), np.array([7, 8], dtype=np.int32)).to_pylist()
        [[7, 8], []]
    """
    return pa.ListArray.from_arrays(numbers(offsets.astype(np.int32)), numbers(values))


def values_of(column: pa.Array) -> npt.NDArray[Any]:
    """Give the numbers of a column without missing ones; nothing is copied.

    Example:
        >>> values_of(numbers(np.array([3, 4, 5])).slice(1)).tolist()
        [4, 5]
    """
    assert not column.null_count
    kind = np.dtype(column.type.to_pandas_dtype())
    held = column.buffers()[1]
    if held is None or not len(column):
        return np.zeros(0, dtype=kind)
    return np.frombuffer(held, dtype=kind, count=len(column), offset=column.offset * kind.itemsize)


def _present(values: Sequence[Any]) -> pa.Buffer | None:
    """Give the bits that say which values are there; None where all are."""
    if None not in values:
        return None
    return pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
