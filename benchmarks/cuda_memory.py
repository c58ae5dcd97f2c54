"""The part `memory` of cuda_rehearsal.py: a training step on tensors without bytes, its allocations and its estimate."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from allocator import Recorder
from shapes import build_config
from torch.utils._python_dispatch import _disable_current_modes

WORKSPACE = 32 * 2**20
"""What cuBLAS takes of the allocator on compute capability 9.0 (8 MiB on others), at its first product."""


BLOCK, BLOCK_OF_SCALES = 64, 256
"""Weights that share a scale, and scales that share one, in bitsandbytes."""


@dataclass(frozen=True)
class Case:
    """A step whose memory is compared.

    Attributes:
        shape: Key of `SHAPES`.
        adapter: `full` or `lora`.
        precision: As in a recipe.
        tokens: Tokens of a micro-batch.
        micro_batches: Their number in a step.
        recompute: Whether activations are recomputed.
        length: Tokens of an example.
        optimizer: As in a recipe.
        rank: Rank of the adapters.
        quantize: As in a recipe: `none` or `4bit`.
    """

    shape: str
    adapter: str = "full"
    precision: str = "bf16"
    tokens: int = 8192
    micro_batches: int = 2
    recompute: bool = False
    length: int = 512
    optimizer: str = "adamw"
    rank: int = 16
    quantize: str = "none"


def build_model(case: Case, device: torch.device, *, quantize: str = "none") -> Any:
    """Return the model of a case as a run would have it, on a device without bytes."""
    from transformers import AutoModelForCausalLM

    from instil.model.adapters.lora import prepare_adapters
    from instil.model.attention.flat import register_attention
    from instil.model.loading import lighten_layers, weight_type
    from instil.recipe import AdapterSettings

    config = build_config(case.shape)
    dtype = weight_type(case.precision, "training", frozen=case.adapter != "full")  # type: ignore[arg-type]
    # A quantised model is packed weight by weight as it is loaded: it never lies there unpacked.
    with _disable_current_modes() if quantize == "4bit" else nullcontext(), device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=register_attention())
    if quantize == "4bit":
        pack(model)
    lighten_layers(model, torch.device("cuda"))
    kind = "none" if case.adapter == "full" else "lora"
    with device:
        return prepare_adapters(model, AdapterSettings(kind=kind, rank=case.rank))


def pack(model: Any) -> None:
    """Give the linear layers of a model, but the head, bitsandbytes' weights of 4 bits, as `model.quantize: 4bit` does.

    All weights are new tensors afterwards, the others too.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    from instil.model.quantization import close_shortcuts

    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and module is not model.get_output_embeddings():
            parent, _, own = name.rpartition(".")
            layer = Linear4bit(
                module.in_features, module.out_features, bias=module.bias is not None, compute_dtype=module.weight.dtype,
                quant_type="nf4", device=module.weight.device,
            )  # fmt: skip
            layer.weight = packed_weight(module.weight)
            setattr(model.get_submodule(parent), own, layer)
    for parameter in model.parameters():
        if not isinstance(parameter, Params4bit):
            parameter.data = torch.empty_like(parameter)
    model.is_loaded_in_4bit = True
    close_shortcuts(model, trains=True)


def packed_weight(weight: torch.Tensor) -> Any:
    """Return a weight in 4 bits (nf4, its scales quantised too), without values."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Params4bit

    numbers = weight.numel()

    def empty(size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=weight.device)

    scales = -(-numbers // BLOCK)
    of_scales = QuantState(
        empty(-(-scales // BLOCK_OF_SCALES), torch.float32), code=empty(256, torch.float32), blocksize=BLOCK_OF_SCALES,
        dtype=torch.float32,
    )  # fmt: skip
    state = QuantState(
        empty(scales, torch.uint8), shape=weight.shape, code=empty(16, torch.float32), blocksize=BLOCK, quant_type="nf4",
        dtype=weight.dtype, offset=empty(1, torch.float32)[0], state2=of_scales,
    )  # fmt: skip
    packed = empty(-(-numbers // 2), torch.uint8)[:, None]
    return Params4bit(packed, requires_grad=False, quant_state=state, bnb_quantized=True)


def rows_of(case: Case, vocabulary: int) -> list[Any]:
    """Return the examples of a step: random ids, of which 40% are trained."""
    from instil.conversation import Example

    random = np.random.default_rng(0)
    number = case.micro_batches * (case.tokens // case.length)
    weights = (np.arange(case.length) >= 0.6 * case.length).astype(np.float32)
    return [Example(random.integers(10, vocabulary - 10, case.length).astype(np.int32), weights) for _ in range(number)]


@contextmanager
def as_on_cuda(lay_out: Any) -> Iterator[None]:
    """Have a step of instil take the ways of CUDA on tensors without values; nothing is read, and the clock is the host's.

    Args:
        lay_out: Makes micro-batches on the device.
    """
    from instil.model.attention import by_example, flat
    from instil.training.step import take_step

    clock = take_step.Clock
    with ExitStack() as stack:
        for place, name, other in (
            (take_step, "lay_out", lay_out),
            (take_step, "_read", mock.Mock(return_value=(1.0, 1.0, 1, 1))),
            (take_step, "Clock", mock.Mock(side_effect=lambda device: clock(torch.device("cpu")))),
            (flat, "_varlen_serves", _varlen_serves),
            (by_example, "_needs_equal_heads", lambda query, mask: not _is_half(query) or mask is not None),
            (torch.nn.functional, "scaled_dot_product_attention", _memory_efficient),
            (torch, "log_softmax", _log_softmax),
        ):
            stack.enter_context(mock.patch.object(place, name, other))
        yield


def _is_half(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


def _varlen_serves(query: torch.Tensor, value: torch.Tensor, features: Any) -> bool:
    width = query.shape[-1]
    return features.is_plain and _is_half(query) and width == value.shape[-1] and width <= 256 and width % 8 == 0


def _memory_efficient(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, is_causal: bool, scale: float, **_: Any
) -> torch.Tensor:
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    output: torch.Tensor = kernel(query, key, value, None, True, 0.0, is_causal, scale=scale)[0]
    return output


def _log_softmax(logits: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    # CUDA reads half precision and writes fp32; on other devices the logits are copied to fp32 before.
    return torch.empty(logits.shape, dtype=dtype, device=logits.device)


def record_step(case: Case, *, device: torch.device, steps: int = 2) -> tuple[Recorder, Any]:
    """Record the first steps of a run; return the recording and the estimate for them."""
    from instil.model.gradient_checkpointing import set_gradient_checkpointing
    from instil.model.loss.token_loss import TokenLoss
    from instil.preparation.store import ExampleStore
    from instil.training.memory.estimate import estimate_memory, measure_sizes
    from instil.training.processes.ranks import Ranks
    from instil.training.step.learner import Cut, Learner
    from instil.training.step.micro_batch import lay_flat
    from instil.training.step.optimizer import build_optimizers
    from instil.training.step.order import Members
    from instil.training.step.precision import Weights, choose_precision
    from instil.training.step.take_step import take_step
    from instil.training.step.tensor_kinds import tensor_kinds

    precision = choose_precision(case.precision, torch.device("cpu"))
    sizes = measure_sizes(build_model(case, torch.device("meta")).train(), precision)
    estimate = estimate_memory(
        sizes,
        precision,
        tokens=case.tokens,
        optimizer=case.optimizer,
        several=case.micro_batches > 1,
        recompute=case.recompute,
        quantize=case.quantize,
        device="cuda",
    )

    def lay_out(learner: Any, store: Any, indices: Any) -> Any:
        with _disable_current_modes():
            batch = lay_flat([store[index] for index in indices], numbers=indices)
        values = {field.name: getattr(batch, field.name) for field in fields(batch)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return replace(batch, **moved)

    recorder = Recorder(device.type)
    recorder.hold(WORKSPACE)
    with recorder, as_on_cuda(lay_out):
        model = build_model(case, device, quantize=case.quantize)
        set_gradient_checkpointing(model, case.recompute)
        weights = Weights(model, precision)
        optimizers = build_optimizers(
            weights.by_name,
            tensor_kinds(model),
            name=case.optimizer,
            lr=1e-5,
        )
        rows = rows_of(case, sizes.vocabulary)
        with _disable_current_modes():
            store = ExampleStore.from_examples(rows * steps)
        learner = Learner(TokenLoss(model).train(), weights, optimizers, store, Ranks(0, 1, device))
        for step in range(steps):
            recorder.mark(f"step {step + 1}")
            members = Members(step + 1, 0, tuple(range(step * len(rows), (step + 1) * len(rows))))
            take_step(learner, members, cut=Cut(case.tokens), seed=0, learning_rate=1e-5, clip=1.0)
            gc.collect()
    return recorder, estimate
