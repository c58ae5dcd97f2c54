"""Keep what autograd saves in the machine's memory between the forward and the backward pass.

For `training.offload_activations`. Hooks around the decoder copy each saved tensor. With gradient checkpointing these
are the inputs of the blocks alone, because everything else is computed again.

Why: not torch's `save_on_cpu`. It copies weights too, and a tensor as often as it is saved: the input of query, key and
value three times.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from instil.model.host_memory import SHARED_MEMORY, SMALLEST
from instil.model.parts import blocks_of, take_apart


class _Copy:
    """A saved tensor in the machine's memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.device = tensor.device
        # With the strides of the tensor: other ones may take another kernel, which rounds otherwise.
        self.host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
        self.host.copy_(tensor)
        self._back: weakref.ref[torch.Tensor] | None = None

    def fetch(self) -> torch.Tensor:
        """Return the tensor on its device; the same one while an earlier user still has it."""
        tensor = None if self._back is None else self._back()
        if tensor is None:
            tensor = self.host.to(self.device, non_blocking=True)
            self._back = weakref.ref(tensor)
        return tensor


class OffloadedActivations:
    """Hooks that keep what the decoder of a model saves in the machine's memory.

    Attributes:
        count: Copies made so far.
    """

    def __init__(self, model: Any) -> None:
        """Put the hooks on a model, for the rest of its life.

        Args:
            model: The model, with adapters. Gradient checkpointing may be on or off.
        """
        self.count = 0
        # Tensors that the running block has saved, which live until the next one begins, and their copies.
        self._of_block: dict[tuple[Any, ...], tuple[torch.Tensor, _Copy]] = {}
        self._hooks: list[torch.autograd.graph.saved_tensors_hooks] = []
        decoder = take_apart(model).decoder
        decoder.register_forward_pre_hook(lambda *_: self._enter())
        decoder.register_forward_hook(lambda *_: self._exit(), always_call=True)
        for block in blocks_of(model):
            block.register_forward_pre_hook(lambda *_: self._of_block.clear())

    def _enter(self) -> None:
        self._hooks.append(torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack))
        self._hooks[-1].__enter__()

    def _exit(self) -> None:
        self._of_block.clear()
        if self._hooks:  # a forward pass that failed before it began has none
            self._hooks.pop().__exit__(None, None, None)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor | _Copy:
        if tensor.device.type in SHARED_MEMORY or tensor.numel() < SMALLEST or _is_weight(tensor):
            return tensor
        storage = tensor.untyped_storage()._cdata
        key = (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
        if key not in self._of_block:
            self._of_block[key] = (tensor, _Copy(tensor))
            self.count += 1
        return self._of_block[key][1]


def _is_weight(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter) or isinstance(tensor._base, torch.nn.Parameter)


def _unpack(saved: torch.Tensor | _Copy) -> torch.Tensor:
    return saved.fetch() if isinstance(saved, _Copy) else saved
