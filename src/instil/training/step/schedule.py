"""The learning rate as a function of the step.

A pure function of recipe and step number, so that a checkpoint stores no scheduler.

Why: the first step already moves the weights (its rate is peak / warm-up steps, not 0), and the last one still does.
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "wsd"]
WSD_DECAY_SHARE = 0.2


def learning_rate(
    step: int, *, num_steps: int, peak: float, schedule: Schedule, warmup: float = 0.0, final: float = 0.0
) -> float:
    """Return the learning rate of a step.

    After the warm-up the rate stays constant (`constant`), falls linearly (`linear`), or falls along half a cosine
    (`cosine`). With `wsd` (warm-up–stable–decay) it stays constant and falls linearly over the last fifth of the run.

    Args:
        step: Step, from 1 to `num_steps`.
        num_steps: Steps of the run.
        peak: Highest rate.
        schedule: Course after the warm-up.
        warmup: Below 1 a share of all steps, rounded; otherwise a number of steps.
        final: Rate just after the last step, as a share of the peak.

    Returns:
        The rate.

    Example:
        >>> [round(learning_rate(s, num_steps=4, peak=1.0, schedule="linear", warmup=1), 3) for s in (1, 2, 3, 4)]
        [1.0, 1.0, 0.667, 0.333]
    """
    warm = warmup_steps(num_steps, warmup)
    if step <= warm:
        return peak * step / warm
    if schedule == "constant":
        return peak
    start = max(warm, num_steps - round(num_steps * WSD_DECAY_SHARE)) if schedule == "wsd" else warm
    done = max(0, step - 1 - start) / max(1, num_steps - start)
    share = 0.5 * (1.0 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0 - done
    return peak * (final + (1.0 - final) * share)


def warmup_steps(num_steps: int, warmup: float) -> int:
    """Return the number of warm-up steps. Below 1, `warmup` is a share of all steps.

    Example:
        >>> warmup_steps(1000, 0.03), warmup_steps(1000, 50)
        (30, 50)
    """
    return min(num_steps, round(num_steps * warmup) if warmup < 1 else round(warmup))
