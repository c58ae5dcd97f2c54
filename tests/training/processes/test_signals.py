from __future__ import annotations

import signal

import pytest

from instil.training.processes.signals import LAUNCHER, TORCHRUN, Stopped, StopRequest


@pytest.mark.parametrize(
    ("launcher", "signals", "stops_at_once"),
    [
        (None, [signal.SIGTERM, signal.SIGTERM], True),
        (None, [signal.SIGINT, signal.SIGTERM], False),
        (LAUNCHER, [signal.SIGTERM, signal.SIGTERM], False),
        (TORCHRUN, [signal.SIGTERM, signal.SIGTERM], False),
        (TORCHRUN, [signal.SIGINT, signal.SIGTERM], True),
    ],
)
def test_what_a_second_signal_is_depends_on_who_started_the_process(
    monkeypatch: pytest.MonkeyPatch, launcher: str | None, signals: list[int], stops_at_once: bool
):
    if launcher:
        monkeypatch.setenv(launcher, "1")
    said: list[str] = []
    request = StopRequest()
    request.save_first(said.append)
    request.take(signals[0], None)
    if stops_at_once:
        with pytest.raises(Stopped, match=signal.Signals(signals[1]).name):
            request.take(signals[1], None)
    else:
        request.take(signals[1], None)
    assert len(said) == 1
