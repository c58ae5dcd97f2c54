"""The flat layout: which tokens of a micro-batch belong to which example.

A micro-batch is whole examples laid end to end in one row of T tokens. The loss makes one `FlatLayout` and passes it to
every attention layer: as a keyword if the architecture passes keywords on, else through `active_layout`.

Why: the active layout stays set after a forward pass, because gradient checkpointing runs the layers again in the
backward pass. The next forward pass replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from instil.model.attention.sequence import SequenceGroup
from instil.model.to_device import send


@dataclass(frozen=True)
class FlatLayout:
    """The lengths of the examples in a flat micro-batch.

    Attributes:
        lengths: Tokens of each example, in order; each at least 1.
        boundaries: Cumulative lengths from 0 to T, int32 on the model's device, as variable-length kernels expect.
        sequence: The processes that share the T tokens; None if this process holds all of them.
    """

    lengths: tuple[int, ...]
    boundaries: torch.Tensor
    sequence: SequenceGroup | None = None

    @classmethod
    def of(
        cls, lengths: Sequence[int], *, device: torch.device | str = "cpu", sequence: SequenceGroup | None = None
    ) -> FlatLayout:
        """Return the layout of examples of these lengths.

        Example:
            >>> FlatLayout.of([2, 3]).boundaries.tolist()
            [0, 2, 5]
        """
        lengths = tuple(int(length) for length in lengths)
        return cls(lengths, send([0, *accumulate(lengths)], device, dtype=torch.int32), sequence)

    def owners(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the number of the example that each token belongs to.

        Args:
            tokens: Indices of tokens, on the layout's device.

        Example:
            >>> FlatLayout.of([2, 3]).owners(torch.tensor([0, 1, 2, 4])).tolist()
            [0, 0, 1, 1]
        """
        return torch.bucketize(tokens, self.boundaries[1:].to(tokens.dtype), right=True)

    @property
    def num_tokens(self) -> int:
        """T, the number of tokens of all examples."""
        return sum(self.lengths)

    @property
    def part(self) -> slice:
        """The tokens that this process holds."""
        return slice(0, self.num_tokens) if self.sequence is None else self.sequence.part_of(self.num_tokens)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest example."""
        return max(self.lengths)


def positions_of(lengths: Sequence[int]) -> torch.Tensor:
    """Return the T positions of a flat micro-batch; they start at 0 in each example.

    Example:
        >>> positions_of([2, 3]).tolist()
        [0, 1, 0, 1, 2]
    """
    return torch.cat([torch.arange(length) for length in lengths])


class _Active:
    layout: FlatLayout | None = None


def set_active_layout(layout: FlatLayout | None) -> None:
    """Set the layout for attention layers that get none as a keyword, until another call replaces it."""
    _Active.layout = layout


def active_layout() -> FlatLayout | None:
    """Return the layout of the latest forward pass."""
    return _Active.layout
