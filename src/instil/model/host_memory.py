"""Keep an optimizer's state in the machine's memory between steps, and on the device while it is used.

For `parallel.offload: optimizer`. A run has an optimizer for each bucket of weights then (see `build_optimizers`), so
the device holds the state of one bucket at a time.

Why: weights are moved on the device, not on the CPU, so results have the same bits, for every optimizer. Each step
sends the state there and back. Copies wait for the device; they do not overlap with arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor

SMALLEST = 1024
"""Smaller tensors of a state stay on the device: counters, and tables that weights share."""
SHARED_MEMORY = frozenset({"cpu", "mps"})
"""Devices that have no memory apart from the machine's."""


class HostState:
    """The copies of an optimizer's state in the machine's memory; hooks of the optimizer move it.

    Of sharded weights the copies are plain tensors of the rows that this process holds.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin to keep the state of an optimizer in the machine's memory."""
        self._copies: dict[tuple[int, str], torch.Tensor] = {}
        self._in_shards: set[tuple[int, str]] = set()
        optimizer.register_step_pre_hook(lambda given, *_: self.load(given))
        optimizer.register_step_post_hook(self.store_after_step)

    def load(self, optimizer: torch.optim.Optimizer) -> None:
        """Send the state to the device of its weights."""
        for weight, state in optimizer.state.items():
            for key, value in state.items():
                if (id(weight), key) not in self._copies:
                    continue
                value = value.to(weight.device, non_blocking=True)
                if (id(weight), key) in self._in_shards:
                    value = _as_shard(value, weight)
                state[key] = value

    def store_after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Fetch the state from the device (the hook of a step)."""
        self.store(optimizer)

    @torch.no_grad()
    def store(self, optimizer: torch.optim.Optimizer) -> None:
        """Fetch the state from the device. The first time this takes the machine's memory, pinned for CUDA."""
        for weight, state in optimizer.state.items():
            for key, value in state.items():
                if not isinstance(value, torch.Tensor) or value.numel() < SMALLEST or value is self._copy(weight, key):
                    continue
                if isinstance(value, DTensor):
                    self._in_shards.add((id(weight), key))
                    value = value.to_local()
                copy = self._copy(weight, key)
                if copy is None:
                    pinned = value.device.type == "cuda"
                    copy = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=pinned)
                    self._copies[id(weight), key] = copy
                copy.copy_(value)
                state[key] = copy

    def _copy(self, weight: torch.Tensor, key: str) -> torch.Tensor | None:
        return self._copies.get((id(weight), key))


def host_state_of(optimizer: torch.optim.Optimizer) -> HostState | None:
    """Return what keeps an optimizer's state in the machine's memory, or None if it stays on the device."""
    owners = (getattr(hook, "__self__", None) for hook in optimizer._optimizer_step_post_hooks.values())
    return next((owner for owner in owners if isinstance(owner, HostState)), None)


def _as_shard(rows: torch.Tensor, weight: torch.Tensor) -> DTensor:
    assert isinstance(weight, DTensor)
    return DTensor.from_local(
        rows, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
