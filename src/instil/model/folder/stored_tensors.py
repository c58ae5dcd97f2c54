"""Reads rows of tensors straight from safetensors files, by their offset.

`loading` reads whole models. This is for a process that keeps a part of one, and never holds more than that part.

Why: plain reads instead of safetensors' slices, which map the file. Pages of a mapped file count as memory of the
process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.folder.file_checks import read_layout, weight_files

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of stored weights that can be read here, by safetensors' names."""
BLOCK_BYTES = 4 * 2**20
"""Bytes that are read at once where they have to be converted."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in a file.

    Attributes:
        path: The file.
        name: Its name there.
        dtype: safetensors' name of its type.
        shape: Its shape.
        start: Offset of its first byte in the file.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; of a tensor without dimensions, all."""
        return math.prod(self.shape[1:]) * FLOATS[self.dtype].itemsize

    def fill(self, out: torch.Tensor, first: int, *, through: torch.dtype) -> None:
        """Read rows into a tensor that has their shape.

        Args:
            out: What to fill, contiguous; its number of rows is how many are read.
            first: The first row.
            through: Type that the rows are rounded to before that of `out`: the type of whole loading.

        Raises:
            ModelError: If the file ends before them.
        """
        stored = FLOATS[self.dtype]
        with open(self.path, "rb", buffering=0) as file:
            if out.device.type == "cpu" and stored == through == out.dtype:
                self._read(file.fileno(), out, first)
                return
            for start, rows in self._blocks(file.fileno(), first, out.shape[0] if out.ndim else 1):
                target = out[start : start + rows.shape[0]] if out.ndim else out
                target.copy_(rows.to(through).view(target.shape))

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Return rows in their stored type."""
        out = torch.empty(last - first, *self.shape[1:], dtype=FLOATS[self.dtype])
        with open(self.path, "rb", buffering=0) as file:
            self._read(file.fileno(), out, first)
        return out

    def _blocks(self, file: int, first: int, count: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield rows in their stored type, in blocks, each with its place among those to read."""
        at_once = max(1, BLOCK_BYTES // max(1, self.row_bytes))
        buffer = torch.empty(min(at_once, count), *self.shape[1:], dtype=FLOATS[self.dtype])
        for start in range(0, count, at_once):
            rows = buffer[: min(at_once, count - start)]
            self._read(file, rows, first + start)
            yield start, rows

    def _read(self, file: int, out: torch.Tensor, first: int) -> None:
        view = bytes_of(out)
        position, done = self.start + first * self.row_bytes, 0
        while done < len(view):
            count = os.preadv(file, [view[done:]], position + done)
            if not count:
                raise ModelError(f"{self.path}: ends inside of {self.name}. Copy or download the model again.")
            done += count


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU, to read into or to write from."""
    flat: Any = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
    return memoryview(flat)


def stored_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """Return where the tensors of a model folder lie, by their names in its files.

    Raises:
        ModelError: If a file is missing or damaged.
    """
    found: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        header, begin = read_layout(path)
        for name, entry in header.items():
            start = begin + entry["data_offsets"][0]
            found[name] = StoredTensor(path, name, entry["dtype"], tuple(entry["shape"]), start)
    return found
