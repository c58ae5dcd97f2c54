from __future__ import annotations

from dataclasses import replace

import pytest
from tests.training.tiny import CPU

from instil.training import duration
from instil.training.memory.estimate import Sizes
from instil.training.step.precision import choose_precision

SIZES = Sizes(1100, 1100, vocabulary=10, width=10, trains_head=True, saved_per_token=1.0, saved_with_recomputing=1.0)


def test_a_run_takes_its_operations_over_the_rate_that_a_step_reaches(monkeypatch: pytest.MonkeyPatch):
    """1,000 weights inside see all tokens, the head's 100 see trained ones: 6 operations each, 4 under adapters."""
    monkeypatch.setattr(duration, "matmul_rate", lambda dtype, device: 1000.0)
    fp32 = choose_precision("fp32", CPU)
    full = duration.estimate_seconds(SIZES, fp32, tokens=50, trained=20, device=CPU)
    assert full == pytest.approx(6 * (1000 * 50 + 100 * 20) / 700)
    adapters = duration.estimate_seconds(replace(SIZES, trained=10), fp32, tokens=50, trained=20, device=CPU)
    assert adapters == pytest.approx(full * 4 / 6)


def test_the_rate_of_this_machine_is_measured():
    assert duration.matmul_rate(choose_precision("fp32", CPU).compute, CPU, size=64, seconds=0.01) > 1e6
