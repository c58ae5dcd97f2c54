"""Estimate how much memory a run needs, before it runs.

For `instil plan`, the run card, `micro_batch_tokens: auto` and `gradient_checkpointing: auto`. Weights, gradients and
optimizer state are counted. Activations are measured: the decoder runs on fake tensors, which have shapes and no bytes,
and what it saves for the backward pass is added up.

Why: there is no formula per architecture. Autograd itself shows what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from instil.errors import ModelError
from instil.model.adapters.saved import is_adapter_weight
from instil.model.attention.flat import LAYOUT_KEYWORD
from instil.model.attention.layout import FlatLayout, positions_of, set_active_layout
from instil.model.host_memory import SHARED_MEMORY
from instil.model.loss.chunked import COPIES_OF_LOGITS, default_chunk_bytes, is_plain
from instil.model.loss.router import passes_keywords
from instil.model.packed_layers import SCALE_BYTES
from instil.model.parts import blocks_of, take_apart
from instil.model.probe import refuse_what_fails
from instil.model.speedups.round_sizes import round_up
from instil.model.underlying import underlying
from instil.training.step.optimizer import BUCKET
from instil.training.step.precision import Precision
from instil.units import byte_size

STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2.1, "muon": 4.0, "adafactor": 0.1}
"""Bytes of optimizer state per trained fp32 number."""
STORED_BYTES = {"4bit": 0.56, "8bit": 1.02}
"""Bytes per quantised number, including its share of the scales."""
LIBRARIES_CPU = 65 * 2**20
"""What is loaded after the model: code, MKL's buffers, matplotlib. Measured, like the next (docs/how-it-works/notes/training.md)."""
PASSING_CPU = 1.25
"""Memory of activations and logits relative to their bytes: malloc's gaps, and results of the backward pass."""
PASSING_CPU_ADAPTERS = {2: 1.5, 4: 1.85}
"""The same with adapters, by bytes per number. Their layers make several results for each one that is kept."""
KEPT_GRADIENTS = 0.5
"""Share of the gradients' memory that malloc keeps after a step and cannot reuse for activations of other sizes."""
KERNEL_BYTES = 0.7 * 2**20
"""What oneDNN keeps per shape of a half-precision product (see `model.speedups.round_sizes`)."""
ATTENTION_KERNELS = 70 * 2**20
"""The same for attention's blocks and the head's chunks together."""
MEMORY_KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "other")
"""Kinds of `Memory`, in the order in which people read them."""
PROBE_LENGTHS = (128, 128)
PROBE_TOKENS = sum(PROBE_LENGTHS)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What memory depends on in a model.

    Attributes:
        parameters: Numbers in the model, with its adapters.
        trained: Numbers that train.
        vocabulary: V, rows of the head.
        width: D, the width of the states.
        trains_head: Whether the head's weight trains, or the embedding that it is tied to.
        saved_per_token: Bytes per token that a forward pass saves for the backward pass.
        saved_with_recomputing: The same with gradient checkpointing: each block's input, and what one block saves while
            it is recomputed.
        plain_head: Whether the head is only a linear layer. Otherwise its logits exist several times.
        products: Number of shapes of matrix products in a forward and backward pass.
        adapter: Numbers of the adapters alone.
        quantizable: Frozen numbers that `model.quantize` packs: those of linear layers, without the head.
        inputs_per_token: Bytes per token of the blocks' inputs alone.
        gathered: Numbers that a process holds in full while it computes with shards: the largest block, the next one,
            which comes while the device computes, and what belongs to no block.
    """

    parameters: int
    trained: int
    vocabulary: int
    width: int
    trains_head: bool
    saved_per_token: float
    saved_with_recomputing: float
    plain_head: bool = True
    products: int = 0
    adapter: int = 0
    quantizable: int = 0
    inputs_per_token: float = 0.0
    gathered: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a step needs, by kind, and their peak.

    Attributes:
        weights: Weights, and fp32 master weights if there are any.
        gradients: Gradients of the trained numbers.
        optimizer: State of the optimizer.
        activations: What the largest micro-batch saves for its backward pass.
        logits: One chunk of logits, and the head's gradient that is computed with it. On a GPU, what a block's backward
            pass makes, if that is more than the chunk.
        several: Whether a step has several micro-batches. With one, activations are freed as gradients are made.
        other: On a CPU, what code, buffers and the allocator take besides tensors.
        host: What is kept in the machine's memory instead; not part of the peak.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    several: bool
    other: int = 0
    host: int = 0

    @property
    def peak(self) -> int:
        """The most that exists at one time."""
        constant = self.weights + self.optimizer + self.other
        transient = self.activations + self.logits
        return constant + (transient + self.gradients if self.several else max(transient, self.gradients))

    def lines(self) -> list[str]:
        """Return a line for each kind, and one for the peak."""
        return [
            *(f"{kind:<12} {byte_size(getattr(self, kind)):>9}" for kind in MEMORY_KINDS),
            f"{'peak':<12} {byte_size(self.peak):>9}",
            *([f"{'offloaded':<12} {byte_size(self.host):>9}"] if self.host else []),
        ]


def estimate_memory(
    sizes: Sizes,
    precision: Precision,
    *,
    tokens: int,
    optimizer: str,
    several: bool,
    recompute: bool = False,
    quantize: str = "none",
    device: str = "cpu",
    shards: int = 1,
    num_sizes: int = 1,
    offload: str = "none",
    offload_activations: bool = False,
) -> Memory:
    """Estimate what a step needs on one device.

    Args:
        sizes: What memory depends on in the model.
        precision: How the run computes.
        tokens: Tokens of the largest micro-batch.
        optimizer: Its name in the recipe.
        several: Whether a step has several micro-batches.
        recompute: Whether activations are recomputed (gradient checkpointing).
        quantize: How frozen weights are stored.
        device: `cpu` or `cuda`.
        shards: Number of processes over which weights, gradients and optimizer state are sharded.
        num_sizes: Number of different sizes of micro-batches, after rounding up.
        offload: What is kept in the machine's memory: `none`, `optimizer` or `all`. Nothing moves on a CPU.
        offload_activations: Whether what is saved for the backward pass is kept there.

    Returns:
        Bytes by kind.
    """
    small = torch.empty(0, dtype=precision.compute).element_size()
    moved = 4 if precision.masters else small  # bytes of a number that the optimizer moves
    if device in SHARED_MEMORY:  # there is no other memory to move anything to
        offload, offload_activations = "none", False
    # Every process has all scales.
    scales = int(SCALE_BYTES.get(quantize, 0) * sizes.quantizable)
    weights = loaded_bytes(sizes, quantize=quantize, unpacked=small) + (4 if precision.masters else 0) * sizes.trained
    state = STATE_BYTES[optimizer] * sizes.trained * moved / 4
    on_cpu = device == "cpu"
    # Half precision on a CPU rounds sizes up, because oneDNN keeps a kernel for each of them.
    few_shapes = on_cpu and small < 4
    full = sizes.trained > sizes.parameters / 2
    passing = 1.0 if not on_cpu else PASSING_CPU if full else PASSING_CPU_ADAPTERS[small]
    if few_shapes:
        tokens = round_up(tokens)
    chunk = default_chunk_bytes(torch.device(device), plain=sizes.plain_head)
    chunk = min(chunk, 4 * sizes.vocabulary * tokens) * (1 if sizes.plain_head else COPIES_OF_LOGITS)
    kernels = ATTENTION_KERNELS + KERNEL_BYTES * sizes.products * num_sizes if few_shapes else 0
    head = small * sizes.vocabulary * sizes.width if sizes.trains_head else 0
    per_token = sizes.saved_with_recomputing if recompute else sizes.saved_per_token
    block = (sizes.saved_with_recomputing - sizes.inputs_per_token) * tokens
    logits = chunk * small // 4 * passing
    if not on_cpu:
        # Log-probabilities are a second chunk, in fp32. A CPU makes them row by row.
        logits += chunk
        # A block's backward pass makes about as much as the block has saved, after the logits are gone. Recomputed,
        # what it saved does not exist beside the logits either.
        logits = max(block, logits - block if recompute else logits)
    gradients = moved * sizes.trained // shards
    kept = 0 if several else KEPT_GRADIENTS * gradients
    weights, optimizer_state, host = (weights - scales) // shards + scales, int(state) // shards, 0
    if offload != "none":
        host = optimizer_state
        # One bucket, or one large tensor, is on the device at a time.
        bucket = max(BUCKET, sizes.vocabulary * sizes.width // shards if sizes.trains_head else 0)
        optimizer_state = min(host, int(bucket * state / max(1, sizes.trained))) if offload == "optimizer" else 0
    if offload == "all":
        host += weights - scales + gradients
        weights = small * sizes.gathered + scales  # as if none of it were packed: embedding and head are not
        gradients = min(gradients, moved * sizes.gathered)
    activations = int(per_token * tokens * passing)
    if offload_activations:
        # What one block has saved is on the device until the next one begins.
        host += activations - (int(block) if recompute else 0)
        activations = min(activations, int(block))
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer_state,
        activations=activations,
        logits=int(logits + head * passing),
        several=several,
        other=int(LIBRARIES_CPU + kernels + kept) if on_cpu else 0,
        host=host,
    )


def measure_sizes(model: Any, precision: Precision) -> Sizes:
    """Measure what memory depends on, without computing anything.

    Args:
        model: transformers' model or peft's around it, on any device. It is not changed.
        precision: How the run computes.
    """
    parts = take_apart(model)
    parameters = list(model.parameters())
    head = list(parts.head.parameters())
    embedding = {
        id(p) for module in model.modules() if isinstance(module, torch.nn.Embedding) for p in module.parameters()
    }
    with refuse_what_fails(model):
        saved = _saved_on_fakes(model, precision)
    blocks = [sum(value.numel() for value in block.parameters()) for block in blocks_of(model)]
    num_parameters = sum(parameter.numel() for parameter in parameters)
    block_inputs = len(blocks) * int(head[0].shape[-1]) * torch.empty(0, dtype=precision.compute).element_size()
    return Sizes(
        parameters=num_parameters,
        trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        vocabulary=parts.vocabulary,
        width=int(head[0].shape[-1]),
        trains_head=any(p.requires_grad for p in head)
        or any(id(p) in embedding for p in parameters if p.requires_grad),
        saved_per_token=saved.total / PROBE_TOKENS,
        saved_with_recomputing=saved.largest_block / PROBE_TOKENS + block_inputs,
        plain_head=is_plain(parts),
        products=_count_products(model),
        adapter=sum(value.numel() for name, value in model.named_parameters() if is_adapter_weight(name)),
        quantizable=_count_quantizable(model, head),
        inputs_per_token=block_inputs,
        gathered=num_parameters - sum(blocks) + sum(sorted(blocks)[-2:]),
    )


def loaded_bytes(sizes: Sizes, *, quantize: str, unpacked: int) -> int:
    """Return the bytes of a whole model as it is loaded.

    Args:
        sizes: Sizes of the model.
        quantize: The setting `model.quantize`.
        unpacked: Bytes of a number that is not packed, as those of embedding and head.
    """
    quantizable = int(STORED_BYTES.get(quantize, unpacked) * sizes.quantizable)
    return quantizable + unpacked * (sizes.parameters - sizes.quantizable)


def _count_quantizable(model: Any, head: Sequence[torch.Tensor]) -> int:
    """Return the numbers of frozen linear layers; bitsandbytes leaves embedding, head and stacked experts as they are."""
    from transformers.pytorch_utils import Conv1D

    kept = {id(parameter) for parameter in head}
    weights = (module.weight for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D))
    return sum(weight.numel() for weight in weights if not weight.requires_grad and id(weight) not in kept)


def _count_products(model: Any) -> int:
    """Return the number of shapes of matrix products: two per shape of linear layers, three if one of them trains."""
    shapes: dict[tuple[int, ...], bool] = {}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            shape = tuple(module.weight.shape)
            shapes[shape] = shapes.get(shape, False) or module.weight.requires_grad
    return sum(3 if trains else 2 for trains in shapes.values())


def _saved_on_fakes(model: Any, precision: Precision) -> _Saved:
    """Run the decoder on tensors without bytes, and add up what it saves for the backward pass."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

    decoder = take_apart(model).decoder
    with FakeTensorMode(allow_non_fake_inputs=True):
        stand_ins = {
            name: torch.empty(value.shape, dtype=_dtype_of(value, precision)).requires_grad_(value.requires_grad)
            for name, value in decoder.named_parameters(remove_duplicate=False)
        }
        stand_ins |= {name: torch.empty(value.shape, dtype=value.dtype) for name, value in decoder.named_buffers()}
        saved = _Saved({value.untyped_storage()._cdata for value in stand_ins.values()})
        hooks = [block.register_forward_pre_hook(saved.next_block) for block in blocks_of(model)]
        layout = FlatLayout.of(PROBE_LENGTHS)
        inputs = {
            "input_ids": torch.zeros(1, layout.num_tokens, dtype=torch.int64),
            "position_ids": positions_of(layout.lengths)[None],
            "use_cache": False,
        }
        if passes_keywords(decoder):
            inputs[LAYOUT_KEYWORD] = layout
        set_active_layout(layout)
        try:
            with _ExpertsOnFakes(), torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda kept: kept):
                torch.func.functional_call(decoder, stand_ins, kwargs=inputs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ModelError(
                f"{type(underlying(model)).__name__}: the shapes in its forward pass depend on values ({error.func}), "
                "so the memory of a run cannot be planned. "
                "Expected an architecture whose shapes depend on shapes alone. Choose another model."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
    return saved


def _dtype_of(value: torch.Tensor, precision: Precision) -> torch.dtype:
    return precision.compute if value.is_floating_point() else value.dtype


class _ExpertsOnFakes(TorchFunctionMode):
    """Return the shape of a mixture's grouped product in every dtype. On fake tensors torch supports bf16 only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._grouped_mm and args[1].dtype != torch.bfloat16:
            return torch.ops.transformers.grouped_mm_fallback(*args, kwargs["offs"])
        return func(*args, **kwargs)


class _Saved:
    """Adds up the bytes of saved tensors: each storage once, and no weights."""

    def __init__(self, weights: set[int]) -> None:
        self._seen = set(weights)
        self._alive: list[torch.Tensor] = []
        self._block = 0.0
        self.total = 0.0
        self.largest_block = 0.0

    def next_block(self, module: torch.nn.Module, inputs: Any) -> None:
        self._block = 0.0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(tensor)
            self.total += storage.nbytes()
            self._block += storage.nbytes()
            self.largest_block = max(self.largest_block, self._block)
        return tensor
