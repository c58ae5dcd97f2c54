"""What this processor has, and the code that is compiled for it."""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from instil.generation.decoder.kernels.vectors import Registers

IS_BF16 = {torch.float32: False, torch.bfloat16: True}
"""The types that kernels are written for."""
_OPENMP = ("GOMP_parallel", "omp_get_num_threads", "omp_get_thread_num")
_LEAST_VERSION = (0, 46)
"""Of llvmlite. Older ones have typed pointers; vLLM needs one, so they may be installed."""
_READ, _EXECUTE = 1, 4
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_lock = threading.Lock()
_engines: list[Any] = []


@functools.cache
def registers() -> Registers | None:
    """Return this processor's vector registers; None where code cannot be compiled, or has no threads to run on."""
    from llvmlite import __version__, binding

    version = tuple(int(number) for number in __version__.split(".")[:2])
    if version < _LEAST_VERSION or not (can_run_new_code() and _has_openmp()):
        return None
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(lanes=16, count=32, tiles=bool(features.get("amx-bf16")) and _may_use_tiles())
    if features.get("avx2") and features.get("fma"):
        return Registers(lanes=8, count=16)
    # LLVM names no features of Apple's processors, and every processor of this kind has NEON.
    if platform.machine() in ("arm64", "aarch64"):
        return Registers(lanes=4, count=32)
    return None


@functools.cache
def can_run_new_code() -> bool:
    """Return whether memory that was written may be run.

    Why: a hardened system refuses it. LLVM then ends the process, and oneDNN raises `RuntimeError`.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        start = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(start)
        try:
            protect = ctypes.CDLL(None).mprotect
            return bool(protect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), _READ | _EXECUTE) == 0)
        except (TypeError, AttributeError, OSError):
            return False
        finally:
            # The page can be closed only when nothing points into it.
            del start


def _has_openmp() -> bool:
    """Return whether torch's OpenMP library can be called, and let compiled code find it."""
    loaded = ctypes.CDLL(None)
    if not all(hasattr(loaded, name) for name in _OPENMP):
        return False
    for name in _OPENMP:
        publish(name, ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0)
    return True


def _may_use_tiles() -> bool:
    """Return whether Linux lets this process use tiles, which it has to ask for once."""
    if platform.system() != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def compiled(module: str) -> Callable[[str], int]:
    """Compile a module for this processor.

    Args:
        module: LLVM code.

    Returns:
        What gives the address of one of its functions. The code lives as long as the process.
    """
    from llvmlite import binding

    with _lock:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        parsed = binding.parse_assembly(module)
        parsed.verify()
        target = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3
        )
        engine: Any = binding.create_mcjit_compiler(parsed, target)
        engine.finalize_object()
        _engines.append(engine)
    return engine.get_function_address  # type: ignore[no-any-return]


def publish(symbol: str, where: int) -> None:
    """Let modules that are compiled later call a function by this name."""
    from llvmlite import binding

    binding.add_symbol(symbol, where)


def address(tensor: Tensor | None) -> int | None:
    """Return where the numbers of a tensor lie; None, which ctypes passes as null, for None."""
    return None if tensor is None else tensor.data_ptr()
