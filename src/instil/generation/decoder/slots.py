"""Keys and values of the rows that are answered, in tensors that are made once and written in place.

Shapes: S slots, K key-value heads, C columns, D width of a head. Row r of a batch lives in slot r; its token at
position p is in column p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_FIRST_COLUMNS = 256


class Slots:
    """Keys and values of all layers.

    Attributes:
        keys: For each layer [S, K, C, D].
        values: For each layer [S, K, C, D].
        lengths: How many columns of each row are filled; one entry a row.
    """

    def __init__(self, num_layers: int, *, num_heads: int, width: int, dtype: torch.dtype) -> None:
        empty = torch.zeros(0, num_heads, _FIRST_COLUMNS, width, dtype=dtype)
        self.keys: list[Tensor] = [empty] * num_layers
        self.values: list[Tensor] = [empty] * num_layers
        self.lengths: list[int] = []

    def reserve(self, num_rows: int, num_columns: int) -> None:
        """Make room for rows of a length. Both sizes grow by doubling, so that growing costs little per token."""
        slots, _, columns, _ = self.keys[0].shape
        if num_rows <= slots and num_columns <= columns:
            return
        slots = slots if num_rows <= slots else max(num_rows, 2 * slots)
        columns = columns if num_columns <= columns else max(num_columns, 2 * columns)
        self.keys = [self._grown(tensor, slots, columns) for tensor in self.keys]
        self.values = [self._grown(tensor, slots, columns) for tensor in self.values]

    def _grown(self, old: Tensor, slots: int, columns: int) -> Tensor:
        # Zeros, for a masked column counts zero times its value, which must be a number.
        new = old.new_zeros(slots, old.shape[1], columns, old.shape[3])
        for row, length in enumerate(self.lengths):
            new[row, :, :length] = old[row, :, :length]
        return new

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token, over all layers."""
        _, heads, _, width = self.keys[0].shape
        return 2 * len(self.keys) * heads * width * self.keys[0].element_size()

    def copied(self, row: int, length: int) -> tuple[Tensor, Tensor]:
        """Return copies of the first keys and values of a row, each [layers, K, length, D]."""
        keys = torch.stack([tensor[row, :, :length] for tensor in self.keys])
        return keys, torch.stack([tensor[row, :, :length] for tensor in self.values])

    def fill(self, row: int, keys: Tensor, values: Tensor, length: int) -> None:
        """Give an empty row the first columns of copies; room must have been reserved."""
        for layer in range(len(self.keys)):
            self.keys[layer][row, :, :length] = keys[layer, :, :length]
            self.values[layer][row, :, :length] = values[layer, :, :length]
        self.lengths[row] = length

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order. Only rows that get another slot are copied."""
        moves = [(new, old) for new, old in enumerate(rows) if new != old]
        if all(old >= len(rows) for _, old in moves):
            # No source is overwritten: each lies behind the slots that stay.
            for tensor in (*self.keys, *self.values):
                for new, old in moves:
                    length = self.lengths[old]
                    tensor[new, :, :length] = tensor[old, :, :length]
        else:
            index = torch.tensor(list(rows))
            self.keys = [tensor[index] for tensor in self.keys]
            self.values = [tensor[index] for tensor in self.values]
        self.lengths = [self.lengths[row] for row in rows]
