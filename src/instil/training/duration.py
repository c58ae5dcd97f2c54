"""Estimate how long a run takes, for `instil plan`: its arithmetic over the measured speed of a matrix product."""

from __future__ import annotations

import time

import torch

from instil.training.memory.estimate import Sizes
from instil.training.step.precision import Precision

SHARE_REACHED = {torch.float32: 0.7, torch.bfloat16: 0.4, torch.float16: 0.4}
"""Share of the matrix-multiply rate that a step reaches; measured in benchmarks/RESULTS.md."""


def estimate_seconds(sizes: Sizes, precision: Precision, *, tokens: int, trained: int, device: torch.device) -> float:
    """Estimate the seconds of a run on one device. Measures the device for a fifth of a second.

    Args:
        sizes: The model.
        precision: How the run computes.
        tokens: Tokens of the run.
        trained: Trained tokens of the run; the head is applied to these only.
        device: Where the run computes.
    """
    head = sizes.vocabulary * sizes.width
    inside = max(0, sizes.parameters - head)
    # Forward 2 and backward 4 operations per weight and token; frozen weights need no gradient, which saves 2.
    passes = 6 if sizes.trained > sizes.parameters / 2 else 4
    work = passes * (inside * tokens + head * trained)
    return work / (matmul_rate(precision.compute, device) * SHARE_REACHED[precision.compute])


def matmul_rate(dtype: torch.dtype, device: torch.device, *, size: int | None = None, seconds: float = 0.2) -> float:
    """Measure the floating-point operations a second of the three matrix products that a linear layer makes in a step.

    Why: on a CPU without instructions for bf16 they differ seven times in speed, by which matrix is transposed.
    """
    size = size or (1024 if device.type == "cuda" else 512)
    values, weight = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    _ = float((values @ weight.T)[0, 0])  # waits until the device is ready
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        forward = values @ weight.T
        _, result = forward @ weight, forward.T @ values
        rounds += 1
    _ = float(result[0, 0])
    return rounds * 3 * 2 * size**3 / (time.perf_counter() - start)
