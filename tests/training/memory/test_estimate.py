from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.model.tiny import tiny_model
from tests.training.tiny import CPU, VOCABULARY, tiny_llama

from instil.model.adapters.lora import prepare_adapters
from instil.model.loss.chunked import CHUNK_BYTES_GPU
from instil.model.packed_layers import SCALE_BYTES
from instil.recipe import AdapterSettings
from instil.training.memory.estimate import (
    PASSING_CPU,
    STORED_BYTES,
    Memory,
    Sizes,
    estimate_memory,
    loaded_bytes,
    measure_sizes,
)
from instil.training.step.optimizer import BUCKET
from instil.training.step.precision import choose_precision

FP32 = choose_precision("fp32", CPU)


def saved_for_real(model: torch.nn.Module, length: int) -> int:
    """Count what one real forward pass over two examples saves, storage by storage."""
    from instil.model.attention.layout import FlatLayout, set_active_layout

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    set_active_layout(FlatLayout.of([length // 2, length // 2]))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.model(input_ids=torch.zeros(1, length, dtype=torch.int64), use_cache=False)
    return sum(sizes.values())


def test_activations_are_those_that_a_real_pass_saves():
    model = tiny_llama().train()
    assert measure_sizes(model, FP32).saved_per_token * 100 == pytest.approx(saved_for_real(model, 100), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "gpt_oss"])
def test_a_mixture_is_measured_in_every_precision(name: str):
    """torch knows the shape of a grouped product without bytes in bf16 alone; no mixture could be trained in fp32."""
    model = tiny_model(name)
    full, half = (measure_sizes(model, choose_precision(precision, CPU)) for precision in ("fp32", "bf16"))
    assert full.saved_per_token * 100 == pytest.approx(saved_for_real(model, 100), rel=0.3)
    assert half.trained == full.trained > 0


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_embedding_and_head_of_a_quantised_base_are_loaded_unpacked(quantize: str):
    model = tiny_llama()
    linear = sum(value.numel() for name, value in model.named_parameters() if name.endswith("proj.weight"))
    rest = sum(value.numel() for value in model.parameters()) - linear
    model.requires_grad_(False)
    loaded = loaded_bytes(measure_sizes(model, FP32), quantize=quantize, unpacked=2)
    assert loaded == pytest.approx(linear * STORED_BYTES[quantize] + rest * 2, rel=1e-3)
    assert loaded_bytes(measure_sizes(model, FP32), quantize="none", unpacked=4) == 4 * (linear + rest)


def test_a_model_without_bytes_has_the_same_sizes():
    real = measure_sizes(tiny_llama().train(), FP32)
    with torch.device("meta"):
        fake = tiny_llama().train()
    assert measure_sizes(fake, FP32) == real


@pytest.mark.slow
def test_counts_of_full_and_lora():
    full = measure_sizes(tiny_llama().train(), FP32)
    lora = measure_sizes(prepare_adapters(tiny_llama(), AdapterSettings(kind="lora", rank=2)).train(), FP32)
    assert full.trained == full.parameters
    assert full.vocabulary == VOCABULARY
    assert 0 < lora.trained < 0.2 * lora.parameters
    assert full.trains_head
    assert not lora.trains_head


def estimate(**changes: object) -> Memory:
    settings: dict[str, object] = {"tokens": 1000, "optimizer": "adamw", "several": True}
    return estimate_memory(measure_sizes(tiny_llama().train(), FP32), FP32, **(settings | changes))


@pytest.mark.slow
def test_memory_grows_with_what_it_should_grow_with():
    plain = estimate()
    assert estimate(tokens=2000).activations == 2 * plain.activations
    assert estimate(recompute=True).activations < plain.activations
    assert estimate(optimizer="adamw_8bit").optimizer < 0.5 * plain.optimizer
    assert estimate(shards=2).weights == plain.weights // 2
    assert estimate(several=False).peak < plain.peak
    assert plain.optimizer == 2 * plain.weights


def test_a_larger_vocabulary_adds_its_rows_and_one_chunk():
    small, large = (measure_sizes(tiny_llama(vocabulary=size).train(), FP32) for size in (VOCABULARY, 2 * VOCABULARY))
    rows = large.parameters - small.parameters
    assert rows == VOCABULARY * small.width
    assert large.saved_per_token == small.saved_per_token
    before, after = (
        estimate_memory(sizes, FP32, tokens=10**6, optimizer="adamw", several=True) for sizes in (small, large)
    )
    assert after.weights - before.weights == after.gradients - before.gradients == 4 * rows
    assert after.optimizer - before.optimizer == 8 * rows
    assert after.activations == before.activations
    assert after.logits - before.logits == pytest.approx(PASSING_CPU * 4 * rows, abs=4)


@pytest.mark.slow
def test_what_is_offloaded_leaves_the_device_and_is_counted_in_the_machines_memory():
    sizes = replace(measure_sizes(tiny_llama().train(), FP32), parameters=10**9, trained=10**9, gathered=10**8)

    def on_gpu(offload: str, *, shards: int = 2) -> Memory:
        ways = {"tokens": 100, "optimizer": "adamw", "several": True, "device": "cuda"}
        return estimate_memory(sizes, FP32, shards=shards, offload=offload, **ways)  # type: ignore[arg-type]

    none, optimizer, everything = (on_gpu(offload) for offload in ("none", "optimizer", "all"))
    assert (none.optimizer, none.host) == (4 * 10**9, 0)
    assert optimizer.optimizer == 8 * BUCKET
    assert optimizer.host == none.optimizer
    assert optimizer.weights == none.weights
    assert (everything.weights, everything.gradients, everything.optimizer) == (4 * 10**8, 4 * 10**8, 0)
    assert everything.host == none.weights + none.gradients + none.optimizer
    assert "offloaded       7.5 GB" in everything.lines()
    assert not any("offloaded" in line for line in none.lines())
    on_cpu = estimate(offload="optimizer")
    assert (on_cpu.host, on_cpu.optimizer) == (0, estimate().optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_offloaded_activations_leave_one_block_on_a_gpu(recompute: bool):
    ways: dict[str, object] = {"device": "cuda", "recompute": recompute}
    plain, offloaded = estimate(**ways), estimate(offload_activations=True, **ways)
    sizes = measure_sizes(tiny_llama().train(), FP32)
    assert offloaded.activations == int((sizes.saved_with_recomputing - sizes.inputs_per_token) * 1000)
    moved = sizes.inputs_per_token if recompute else sizes.saved_per_token
    assert offloaded.host == pytest.approx(moved * 1000, abs=2)
    assert offloaded.peak < plain.peak
    assert estimate(offload_activations=True) == estimate()


def test_what_is_gathered_is_two_blocks_and_what_belongs_to_none():
    model = tiny_llama()
    sizes = measure_sizes(model.train(), FP32)
    assert sizes.gathered == sizes.parameters  # of two blocks


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_shards_divide_packed_weights_and_keep_their_scales(quantize: str):
    sizes = replace(measure_sizes(tiny_llama().train(), FP32), parameters=10**9, trained=0, quantizable=10**9)
    whole, half = (
        estimate_memory(sizes, FP32, tokens=100, optimizer="adamw", several=True, quantize=quantize, shards=shards)
        for shards in (1, 2)
    )
    scales = SCALE_BYTES[quantize] * 10**9
    assert half.weights == pytest.approx((whole.weights - scales) / 2 + scales, rel=1e-6)


def test_only_linear_layers_besides_the_head_are_packed():
    """Embedding and head of a 4-bit base were counted as packed: 1.5 GB too little for Llama-3.1-8B."""
    model = prepare_adapters(tiny_llama(), AdapterSettings(kind="lora", rank=2)).train()
    sizes = measure_sizes(model, FP32)
    whole, packed = (
        estimate_memory(sizes, FP32, tokens=100, optimizer="adamw", several=True, quantize=quantize).weights
        for quantize in ("none", "4bit")
    )
    inside = [value for name, value in model.named_parameters() if "_proj" in name and "lora" not in name]
    assert sizes.quantizable == sum(value.numel() for value in inside) > 0
    assert whole - packed == pytest.approx((4 - STORED_BYTES["4bit"]) * sizes.quantizable, abs=1)


def test_a_gpu_has_its_logits_twice_and_recomputes_beside_them():
    """The chunk of log-probabilities in fp32 was left out: 512 MB of a large vocabulary."""
    sizes = Sizes(
        parameters=10**6,
        trained=0,
        vocabulary=100_000,
        width=10,
        trains_head=False,
        saved_per_token=5000.0,
        saved_with_recomputing=3000.0,
        inputs_per_token=1000.0,
    )
    half = choose_precision("bf16", CPU)

    def transient(tokens: int, *, recompute: bool) -> int:
        memory = estimate_memory(
            sizes, half, tokens=tokens, optimizer="adamw", several=True, recompute=recompute, device="cuda"
        )
        return memory.activations + memory.logits

    chunk, both = CHUNK_BYTES_GPU, CHUNK_BYTES_GPU // 2 + CHUNK_BYTES_GPU
    assert 4 * sizes.vocabulary * 10_000 > chunk
    # Few tokens: the head takes more than a block. Many: a block's backward pass takes more, as much as it has saved.
    assert transient(10_000, recompute=False) == 5000 * 10_000 + both
    assert transient(10_000, recompute=True) == 1000 * 10_000 + both
    assert transient(10**6, recompute=False) == (5000 + 2000) * 10**6
    assert transient(10**6, recompute=True) == (3000 + 2000) * 10**6
