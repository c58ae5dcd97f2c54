"""How far a run is, on the screen: a bar that is redrawn on a terminal, one output with a curve in a notebook, a plain
line every few seconds in a log. All three name the same figures.

Why: no logging framework. A run prints one kind of line, and the rest is in `metrics.jsonl`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from instil.screen import Bar, Figure, Screen, sparkline, work
from instil.screen.consoles import is_dumb, is_terminal
from instil.training.records.live_view import LiveView, kernel_display
from instil.units import byte_size, duration, loss_words

SECONDS_BETWEEN_LINES = 5.0
SPARKLINE_WIDTH = 8
_MOST_LOSSES = 1024


class ProgressBar:
    """How far the run is: a bar on a terminal, a bar and a curve in a notebook, a line every few seconds in a log."""

    def __init__(
        self, *, num_steps: int, done: int, quiet: bool = False, earlier: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Make the bar; it appears when the context is entered.

        Args:
            num_steps: Steps of the run.
            done: Steps done before.
            quiet: Print nothing.
            earlier: Metrics of the steps done before.
        """
        self._num_steps = num_steps
        self._first = done
        self._start = time.monotonic()
        self._last_line = 0.0
        self._heldout = ""
        self._quiet = quiet
        self._losses = [line["loss"] for line in earlier if "loss" in line][-_MOST_LOSSES:]
        self._stack = contextlib.ExitStack()
        self._bar: Bar | None = None
        self._texts = ("", "", "", "", "")  # loss, learning rate, speed, memory, time left of the latest step
        display = None if quiet else kernel_display()
        self._live = None if display is None else LiveView(display, num_steps=num_steps, earlier=earlier)
        for line in earlier:
            if "heldout_loss" in line:
                self._heldout = _with_step(line["heldout_loss"], line["step"], won=line.get("heldout_accuracy"))

    def __enter__(self) -> ProgressBar:
        if self._live is not None:
            self._live.show()
        elif not self._quiet:
            self._bar = self._stack.enter_context(work("train", total=self._num_steps, unit="steps", shown=True))
            self._bar.start_at(self._first)
            self._bar.show(self._figures())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._live is not None:
            self._live.end(error)

    def step(self, line: Mapping[str, Any]) -> None:
        """Show a step's line of metrics."""
        if self._quiet:
            return
        step, now = line["step"], time.monotonic()
        seconds_left = (now - self._start) / max(1, step - self._first) * (self._num_steps - step)
        left = f"{duration(seconds_left)} left"
        speed = f"{line['tokens'] / max(1e-9, line['seconds']['total']):,.0f} tokens/s"
        loss = f"loss {loss_words(line['loss'])}{_won(line.get('accuracy'))}"
        memory = byte_size(line["memory_mb"] * 2**20)
        rate = f"lr {line['learning_rate']:.2e}"
        figures = [text for text in (loss, self._heldout, rate, speed, memory, left) if text]
        if self._live is not None:
            words = [f"step {step:,} of {self._num_steps:,}", *figures]
            self._live.step(step, line["loss"], "  ".join(words))
            return
        assert self._bar is not None
        self._bar.to(step)
        self._losses.append(line["loss"])
        if len(self._losses) > _MOST_LOSSES:
            self._losses = self._losses[::2]
        self._texts = (loss, rate, speed, memory, left)
        self._bar.show(self._figures())
        is_due = now - self._last_line >= SECONDS_BETWEEN_LINES or step in (self._num_steps, self._first + 1)
        if _is_log() and is_due:
            self._last_line = now
            print("  ".join([f"step {step}/{self._num_steps}", *figures]), flush=True)

    def _figures(self) -> list[Figure]:
        """Return what stands behind the bar; a narrow terminal loses the memory first, then the speed, then the curve."""
        loss, rate, speed, memory, left = self._texts
        curve = sparkline(self._losses, width=SPARKLINE_WIDTH)
        texts = ((loss, 2), (curve, 5), (self._heldout, 3), (rate, 4), (speed, 6), (memory, 7), (left, 2))
        return [Figure(text, rank) for text, rank in texts if text]

    def heldout(self, step: int, loss: float, *, won: float | None = None) -> None:
        """Show the held-out loss of a step from now on, with its step, and the share of pairs that are won."""
        self._heldout = _with_step(loss, step, won=won)
        if self._live is not None:
            self._live.heldout(step, loss)
        elif self._bar is not None:
            self._bar.show(self._figures())
            if _is_log():
                print(f"step {step}/{self._num_steps}  held-out {loss_words(loss)}{_won(won)}", flush=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        Screen(quiet=self._quiet).say(text)


def _is_log() -> bool:
    """Return True if standard output cannot be redrawn, so that it gets lines."""
    return is_dumb() or not is_terminal(sys.stdout)


def _with_step(loss: float, step: int, *, won: float | None = None) -> str:
    """Return a held-out loss with the step that it was measured after.

    Example:
        >>> _with_step(8.69764, 0), _with_step(0.5, 20, won=0.9)
        ('held-out 8.6976 @0', 'held-out 0.5000 (90% won) @20')
    """
    return f"held-out {loss_words(loss)}{_won(won)} @{step:,}"


def _won(share: float | None) -> str:
    """Return which share of pairs has the chosen answer ahead; empty for a run without pairs."""
    return "" if share is None else f" ({share:.0%} won)"
