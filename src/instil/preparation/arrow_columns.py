"""Build Arrow columns of numbers, lists and texts from their buffers, for `store.pack`.

Why: the first call of ``pyarrow.array``, or of an array's ``to_numpy``, imports pandas where that is installed. The
import takes longer than preparing a thousand conversations.
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
    """Return sequences of numbers end to end. Lists go through `array`, which takes a third of numpy's time.

    Example:
        >>> flat([[1, 2], (3,)], "i").tolist()
        [1, 2, 3]
    """
    numbers = array(kind)
    for piece in pieces:
        if isinstance(piece, list):
            numbers.fromlist(piece)
        elif isinstance(piece, np.ndarray):
            numbers.frombytes(piece.astype(_KINDS[kind]).tobytes())
        else:
            numbers.extend(piece)
    return np.frombuffer(numbers, dtype=_KINDS[kind]) if numbers else np.zeros(0, dtype=_KINDS[kind])


def numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Return a column of numbers of the array's own type."""
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def numbers_or_none(values: Sequence[int | None], kind: type[np.generic]) -> pa.Array:
    """Return a column of numbers with missing values.

    Example:
        >>> numbers_or_none([4, None], np.int32).to_pylist()
        [4, None]
    """
    filled = np.array([0 if value is None else value for value in values], dtype=kind)
    buffers = [_present(values), pa.py_buffer(filled)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(filled.dtype), len(filled), buffers)


def texts(values: Sequence[str | None]) -> pa.Array:
    """Return a column of texts with missing values.

    Example:
        >>> texts(["é", None, ""]).to_pylist()
        ['é', None, '']
    """
    encoded = [b"" if value is None else value.encode("utf-8") for value in values]
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in encoded], dtype=np.int64))).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [_present(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def lists(offsets: npt.NDArray[Any], values: npt.NDArray[Any]) -> pa.Array:
    """Return a column of lists from their values, end to end, and the start of each list.

    Example:
        >>> lists(np.array([0, 2, 2]), np.array([7, 8], dtype=np.int32)).to_pylist()
        [[7, 8], []]
    """
    return pa.ListArray.from_arrays(numbers(offsets.astype(np.int32)), numbers(values))


def values_of(column: pa.Array) -> npt.NDArray[Any]:
    """Return the numbers of a column without missing values, as a view.

    Example:
        >>> values_of(numbers(np.array([3, 4, 5])).slice(1)).tolist()
        [4, 5]
    """
    assert not column.null_count
    kind = np.dtype(column.type.to_pandas_dtype())
    buffer = column.buffers()[1]
    if buffer is None or not len(column):
        return np.zeros(0, dtype=kind)
    return np.frombuffer(buffer, dtype=kind, count=len(column), offset=column.offset * kind.itemsize)


def _present(values: Sequence[Any]) -> pa.Buffer | None:
    """Return the bitmap of present values, or None if no value is missing."""
    if None not in values:
        return None
    return pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
