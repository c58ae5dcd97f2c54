"""Writes a model folder whose weights come row by row, for a model that no process holds whole.

transformers decides which tensors are written, under which names and into which files; it is given tensors without
content. Here each file gets its header and its full length, and rows are written at their offsets afterwards. The files
are byte for byte those that transformers writes of the whole model.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from instil.model.folder.saving import write_weights
from instil.model.folder.stored_tensors import FLOATS, bytes_of

_NAMES = {dtype: name for name, dtype in FLOATS.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes belong.

    Attributes:
        path: The file.
        start: Offset of its first byte.
        dtype: Type of its numbers.
        shape: Its shape.
    """

    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def write(self, rows: torch.Tensor, first: int) -> None:
        """Write rows at their offset; the file has its full length already.

        Args:
            rows: Rows of the tensor's type, on the CPU.
            first: Number of the first of them.
        """
        assert rows.dtype == self.dtype
        assert rows.shape[1:] == self.shape[1:]
        view = bytes_of(rows.contiguous())
        row_bytes = rows.element_size() * (rows[0].numel() if rows.numel() else 0)
        with open(self.path, "r+b", buffering=0) as file:
            done = 0
            while done < len(view):
                done += os.pwrite(file.fileno(), view[done:], self.start + first * row_bytes + done)


def reserve_weights(model: Any, state: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Place]:
    """Write everything of a model's own files but the numbers of its weights.

    Args:
        model: transformers' model, without weights; its config and generation config are written.
        state: Its tensors on `meta`, by name, in the type to write.
        folder: A folder that exists.

    Returns:
        Where each tensor belongs; those that transformers leaves out (tied ones) are not in it.
    """
    places: dict[str, Place] = {}
    with _reserving(places):
        write_weights(model, folder, state=state)
    return places


@contextlib.contextmanager
def _reserving(places: dict[str, Place]) -> Iterator[None]:
    """Let transformers' `save_pretrained` write files with a header and no content."""
    from transformers import modeling_utils

    def reserve(state: Mapping[str, torch.Tensor], filename: str, metadata: Mapping[str, str] | None = None) -> None:
        places.update(_reserve_file(state, Path(filename), metadata or {}))

    own = modeling_utils.safe_save_file
    modeling_utils.safe_save_file = reserve
    try:
        yield
    finally:
        modeling_utils.safe_save_file = own


def _reserve_file(state: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> dict[str, Place]:
    """Write a safetensors header, give the file its length, and return where its tensors belong.

    Source: safetensors' format: the header's length in 8 bytes, JSON padded with spaces to a multiple of 8, and the
    tensors, those of larger numbers first, then by name.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    ordered = sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0]))
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(begin + offset)
    return {
        name: Place(path, begin + header[name]["data_offsets"][0], tensor.dtype, tuple(tensor.shape))
        for name, tensor in ordered
    }
