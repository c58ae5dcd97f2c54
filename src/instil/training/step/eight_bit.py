"""AdamW with moments of 8 bits, through bitsandbytes, over whole weights and over shards.

bitsandbytes cuts a tensor into blocks of 256 numbers and keeps one scale for each. Over shards every process moves its
own rows, and its blocks begin at its first row. Where that is not the start of a block of the whole tensor, the
scales differ from those of one process, and the results by the rounding of 8 bits.

Why: bitsandbytes' kernels take the address of plain memory, so they get the local tensor of a DTensor. Whether a
weight's moments have 8 bits is decided by the whole tensor, so that the number of processes does not change it.

Source:
    https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1633
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from instil.errors import MissingPackageError

BLOCK = 256
"""Numbers that share a scale."""
SMALLEST = 4096
"""Weights with fewer numbers keep their moments in fp32; bitsandbytes' own limit."""


def adamw_8bit(groups: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return AdamW with moments of 8 bits.

    Args:
        groups: Groups of weights, whole or DTensors, as torch's optimizers take them.
        settings: `lr`, `betas`, `eps` and `weight_decay`.

    Raises:
        MissingPackageError: If bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError:
        raise MissingPackageError("bitsandbytes", needed_for="optimizer.name: adamw_8bit", extra="qlora") from None
    over_shards = any(isinstance(weight, DTensor) for group in groups for weight in group["params"])
    kind = _over_shards() if over_shards else bitsandbytes.optim.AdamW8bit
    optimizer: torch.optim.Optimizer = kind(list(groups), **settings)
    return optimizer


@functools.cache
def _over_shards() -> type:
    from bitsandbytes.optim import AdamW8bit
    from bitsandbytes.utils import sync_gpu

    class AdamW8bitOverShards(AdamW8bit):  # type: ignore[misc]
        """bitsandbytes' optimizer over the rows of DTensors that this process holds."""

        def get_config(self, gindex: int, pindex: int, group: Any) -> dict[str, Any]:
            """Return the settings of a weight; its whole size decides whether its moments have 8 bits."""
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            is_large = group["params"][pindex].numel() >= SMALLEST
            return {**config, "min_8bit_size": 0 if is_large else float("inf")}

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            """Move the rows of this process. A process without a row of a weight has no state for it."""
            assert closure is None
            for gindex, pindex, weight, gradient in self._weights_with_rows():
                group, rows = self.param_groups[gindex], weight.to_local()
                # While they are moved, the rows stand in the place of their weight.
                rows.grad = gradient.to_local()
                if weight in self.state:
                    self.state[rows] = self.state.pop(weight)
                else:
                    self.init_state(group, rows, gindex, pindex)
                self.update_step(group, rows, gindex, pindex)
                sync_gpu(rows)
                self.state[weight] = self.state.pop(rows)
                rows.grad = None

        def _weights_with_rows(self) -> Iterator[tuple[int, int, DTensor, DTensor]]:
            for gindex, group in enumerate(self.param_groups):
                for pindex, weight in enumerate(group["params"]):
                    if weight.grad is not None and weight.to_local().numel():
                        yield gindex, pindex, weight, weight.grad

    return AdamW8bitOverShards
