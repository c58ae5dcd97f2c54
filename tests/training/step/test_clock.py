from __future__ import annotations

import pytest
from tests.training.tiny import CPU

from instil.training.step import clock
from instil.training.step.clock import Clock


def test_a_phase_that_is_entered_twice_is_added_up(monkeypatch: pytest.MonkeyPatch):
    #                start data fwd  bwd  fwd  upd  end  total
    times = iter([0.0, 0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 15.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    measured = Clock(CPU)
    for phase in ("forward", "backward", "forward", "update"):
        measured.enter(phase)
    assert measured.seconds() == {"data": 1.0, "forward": 6.0, "backward": 3.0, "update": 5.0, "total": 15.0}
