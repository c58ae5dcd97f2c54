"""The part `code` of cuda_rehearsal.py: Inductor's kernels for CUDA, compiled to the binary without a driver.

Why so many replacements: Inductor asks torch for the properties of the device that it compiles for, and enters its
context. Here the properties are those of a published data sheet, and there is no context.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

SHARED = {80: 166_912, 90: 232_448}
"""Bytes of shared memory that a block may take, by compute capability."""
TOKENS, WIDTH, INSIDE = 256, 128, 384


def block(states: torch.Tensor, norm: torch.Tensor, gates: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return what a block does around attention: norm, gated layer, residual."""
    wide = states.float()
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(states.dtype) * norm
    gate, other = (normed @ gates).chunk(2, -1)
    return states + (torch.nn.functional.silu(gate) * other) @ down


def _both_passes(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    output = block(*inputs)
    return (output, *torch.autograd.grad(output.float().square().sum(), inputs))


def compile_ahead(capability: tuple[int, int]) -> dict[str, Any]:
    """Compile a block, forward and backward, for a compute capability; return its kernels and their binaries."""
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    sizes = ((TOKENS, WIDTH), (WIDTH,), (WIDTH, 2 * INSIDE), (INSIDE, WIDTH))
    inputs = [torch.zeros(size, dtype=torch.bfloat16).requires_grad_() for size in sizes]
    graph = make_fx(_both_passes, decomposition_table=select_decomp_table())(*inputs)
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cuda", 0)}
    graph.recompile()
    mode = FakeTensorMode()
    with mode:
        fakes = [torch.empty(size, dtype=torch.bfloat16, device="cuda") for size in sizes]
    FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*fakes)
    started = time.perf_counter()
    kernels: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for place, name, other in _replacements(capability, kernels):
            stack.enter_context(mock.patch.object(place, name, other))
        stack.enter_context(torch._guards.tracing(torch._guards.TracingContext(mode)))
        stack.enter_context(torch._inductor.config.patch(compile_threads=1, fx_graph_cache=False))
        reason = None
        try:
            compile_fx_inner(graph, fakes)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    found = {
        "capability": ".".join(map(str, capability)),
        "kernels": kernels,
        "ended_with": reason,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(
        f"capability {found['capability']}: {len(kernels)} kernels, {found['seconds']} s; {reason or 'no error'}",
        flush=True,
    )
    for kernel in kernels:
        print(f"  {kernel['name']}: {kernel['variants']} variants", flush=True)
    return found


def _replacements(capability: tuple[int, int], kernels: list[dict[str, Any]]) -> list[tuple[Any, str, Any]]:
    import torch._dynamo.device_interface as interfaces
    import torch._inductor.async_compile as compiling
    import torch._inductor.runtime.triton_helpers as helpers
    from torch._inductor.codecache import PyCodeCache
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    number = 10 * capability[0] + capability[1]
    properties = SimpleNamespace(
        name="rehearsal",
        major=capability[0],
        minor=capability[1],
        multi_processor_count=108 if number < 90 else 132,
        total_memory=80 * 2**30,
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        regs_per_multiprocessor=65536,
        warp_size=32,
        gcnArchName="",
        L2_cache_size=40 * 2**20,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=SHARED[number],
        shared_memory_per_multiprocessor=SHARED[number] + 1024,
    )

    def triton(self: Any, name: str, source: str, device_str: str = "cuda") -> Any:
        kernel = getattr(PyCodeCache.load(source), name)
        kernel.precompile(warm_cache_only=True)  # as Inductor's workers do, which have no device either
        kernels.append({"name": name, "variants": len(kernel.compile_results)})
        return kernel

    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", number, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device=0: 0,
            get_device_interface=lambda: torch.cuda,
            get_active_torch_device=lambda: torch.device("cuda", 0),
            utils=None,
        )
    )
    state = torch.zeros(16, dtype=torch.uint8)
    worker = interfaces.CudaInterface.Worker
    return [
        (torch.cuda, "_lazy_init", lambda: None),
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "device_count", lambda: 1),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "set_device", lambda device: None),
        (torch.cuda, "synchronize", lambda device=None: None),
        (torch.cuda, "_exchange_device", lambda index: 0),
        (torch.cuda, "_maybe_exchange_device", lambda index: 0),
        (torch.cuda, "get_device_properties", lambda device=None: properties),
        (torch.cuda, "get_device_capability", lambda device=None: capability),
        (torch.cuda, "get_rng_state", lambda device="cuda": state),
        (torch.cuda, "set_rng_state", lambda new, device="cuda": None),
        (worker, "get_device_properties", staticmethod(lambda device=None: properties)),
        (interfaces.CudaInterface, "get_device_properties", staticmethod(lambda device=None: properties)),
        (interfaces.CudaInterface, "get_compute_capability", staticmethod(lambda device=None: number)),
        (interfaces.CudaInterface, "is_available", staticmethod(lambda: True)),
        (compiling.AsyncCompile, "triton", triton),
        (helpers, "set_driver_to_gpu", lambda: None),
    ]
