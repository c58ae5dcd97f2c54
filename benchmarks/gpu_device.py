"""The device of gpu.py: an NVIDIA GPU, or in a rehearsal one that is faked, with seconds from a cost model.

A rehearsal computes on the stand-in of the tests (tests/stand_in), whose tensors carry a device of their own and compute
on the CPU, or on the CPU itself where a library needs a device that it knows. Its seconds are the time that an H200
needs by its data sheet, summed over operators: the longer of arithmetic and memory traffic, and a launch.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

FLOPS = 989e12
"""Products of bf16 in a second, without sparsity."""
BANDWIDTH = 4.8e12
"""Bytes in a second."""
LAUNCH = 5e-6
"""Seconds that an operator takes at least."""
ROOT = Path(__file__).resolve().parents[1]

Kind = Literal["cuda", "standin", "cpu"]


@dataclass(frozen=True)
class Device:
    """Where a cell computes.

    Attributes:
        kind: `cuda`, or what a rehearsal takes in its place.
        torch: The same for torch.
    """

    kind: Kind
    torch: torch.device

    @property
    def is_faked(self) -> bool:
        """Whether this is a rehearsal."""
        return self.kind != "cuda"

    @property
    def name(self) -> str:
        """The name of the device, for people."""
        return "rehearsal" if self.is_faked else torch.cuda.get_device_name()

    def wait(self) -> None:
        """Wait until the device is idle."""
        if not self.is_faked:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """Do something and return its seconds."""
        if self.is_faked:
            with CostModel() as cost:
                work()
            return cost.seconds
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def matrix_rate(self) -> float:
        """Return the rate of bf16 matrix products on random data, in FLOP/s."""
        size = 256 if self.is_faked else 8192
        a, b = (torch.randn(size, size, device=self.torch).to(torch.bfloat16) for _ in range(2))
        return 2 * size**3 / statistics.median([self.seconds(lambda: a @ b) for _ in range(12)][2:])

    def peak_mb(self) -> float | None:
        """Return the most that was allocated since `forget_peak`, in MB; None in a rehearsal."""
        return None if self.is_faked else torch.cuda.max_memory_allocated() / 2**20

    def forget_peak(self) -> None:
        """Begin a new measurement of the peak."""
        if not self.is_faked:
            torch.cuda.reset_peak_memory_stats()


CPU = Device("cpu", torch.device("cpu"))
"""What computes beside the device, and in a rehearsal for libraries that know no other."""


class CostModel(TorchDispatchMode):
    """Adds up what operators would take.

    Example:
        >>> a = torch.zeros(1024, 1024)
        >>> with CostModel() as cost: _ = a @ a
        >>> cost.seconds > 2 * 1024**3 / FLOPS
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        count = flop_registry.get(func._overloadpacket)
        flops = 0 if count is None else count(*args, **kwargs, out_val=result)
        tensors = (value for value in tree_flatten((args, kwargs, result))[0] if isinstance(value, torch.Tensor))
        traffic = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.seconds += max(flops / FLOPS, traffic / BANDWIDTH, LAUNCH)
        return result


def open_device(kind: Kind) -> Device:
    """Return the device of a kind; the stand-in is registered with torch and with instil in this process.

    Raises:
        SystemExit: If the stand-in is not beside the benchmarks.
    """
    if kind != "standin":
        return Device(kind, torch.device(kind))
    if not (ROOT / "tests" / "stand_in" / "running.py").exists():
        raise SystemExit(
            f"{ROOT / 'tests'}: no stand_in. Expected the tests beside the benchmarks. Rehearse in a complete checkout."
        )
    sys.path.insert(0, str(ROOT))
    from tests.stand_in.running import enter

    return Device(kind, enter())
