"""The output of a run in a notebook: how often it changes, how much it keeps, what it ends with.

`tests/notebook` executes it in a real kernel.
"""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from tests.views.parsed import text_of

from instil.training.records import live_view
from instil.training.records.live_view import SECONDS_BETWEEN_UPDATES, LiveView, kernel_display
from instil.views.curve import MOST_POINTS


class Screen:
    """Keeps what is shown, as a notebook does: one output for each id."""

    def __init__(self) -> None:
        self.outputs: dict[str, str] = {}
        self.num_calls = 0

    def __call__(self, data, *, raw, display_id, update):
        assert raw
        assert update == (display_id in self.outputs)
        self.outputs[display_id] = data["text/html"]
        self.num_calls += 1

    @property
    def page(self) -> str:
        (page,) = self.outputs.values()
        return page


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(live_view.time, "monotonic", lambda: now[0])
    return now


def test_a_thousand_steps_a_second_are_two_updates_a_second(clock: list[float]):
    screen = Screen()
    view = LiveView(screen, num_steps=3000)
    view.show()
    for step in range(1, 3001):
        clock[0] += 0.001
        view.step(step, 1.0, f"step {step}")
    assert screen.num_calls == 1 + int(3 / SECONDS_BETWEEN_UPDATES)
    view.end(None)
    assert "width:100.0%" in screen.page
    assert "done · step 3000" in text_of(screen.page)


def test_a_run_of_any_length_keeps_a_bounded_number_of_points(clock: list[float]):
    view = LiveView(Screen(), num_steps=100_000)
    for step in range(1, 100_001):
        view.step(step, float(step), "")
    assert len(view._trained) <= 4 * MOST_POINTS
    steps = [step for step, _ in view._trained]
    assert steps == sorted(steps)
    assert all(abs(step - loss) < 1e-6 for step, loss in view._trained)
    assert steps[-1] == 100_000


def test_a_resumed_run_has_the_curve_of_its_steps_before(clock: list[float]):
    earlier = [{"step": step, "loss": 5.0} for step in range(1, 50)] + [{"step": 40, "heldout_loss": 4.0}]
    screen = Screen()
    view = LiveView(screen, num_steps=100, earlier=earlier)
    view.show()
    assert "training 5.0000 to 5.0000, held-out 4.0000" in screen.page


def test_an_error_and_an_early_end_are_named(clock: list[float]):
    screen = Screen()
    view = LiveView(screen, num_steps=100)
    view.step(7, math.nan, "step 7")
    view.end(MemoryError("x"))
    assert "MemoryError after 7 of 100 steps" in text_of(screen.page)
    assert "<svg" not in screen.page  # no loss has a place
    view.end(None)
    assert "ended after 7 of 100 steps" in text_of(screen.page)


@pytest.mark.slow
def test_without_a_kernel_there_is_no_display():
    assert kernel_display() is None
    # IPython in a terminal has no kernel: the bar of the terminal stays.
    script = (
        "from IPython.terminal.interactiveshell import TerminalInteractiveShell as Shell\n"
        "from instil.training.records.live_view import kernel_display\n"
        "shell = Shell.instance()\n"
        "print(kernel_display())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("None")
