"""How far a run is, on the screen: a bar that is redrawn on a terminal, one output with a curve in a notebook, a plain
line every few seconds in a log.

Why: no logging framework. A run prints one kind of line, and the rest is in `metrics.jsonl`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from instil.training.records.live_view import LiveView, kernel_display
from instil.units import byte_size, duration

SECONDS_BETWEEN_LINES = 5.0
BAR_WIDTH = 24


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
        self._heldout: float | None = None
        self._quiet = quiet
        self._bar: Any = None
        display = None if quiet else kernel_display()
        self._live = None if display is None else LiveView(display, num_steps=num_steps, earlier=earlier)
        if not quiet and self._live is None and sys.stdout.isatty():
            self._bar, self._task = _make_bar(num_steps, done)

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        if self._live is not None:
            self._live.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
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
        losses = [f"loss {line['loss']:.4f}", *([f"held-out {self._heldout:.4f}"] if self._heldout is not None else [])]
        rate, memory = f"lr {line['learning_rate']:.2e}", byte_size(line["memory_mb"] * 2**20)
        if self._bar is not None:
            parts = [f"{step}/{self._num_steps}", *losses, left, speed, rate, memory]
            text = join_what_fits(parts, self._bar.console.width - BAR_WIDTH - 1)
            self._bar.update(self._task, completed=step, text=text)
        elif self._live is not None:
            parts = [f"step {step:,} of {self._num_steps:,}", *losses, rate, speed, memory, left]
            self._live.step(step, line["loss"], "  ".join(parts))
        elif now - self._last_line >= SECONDS_BETWEEN_LINES or step in (self._num_steps, self._first + 1):
            self._last_line = now
            print("  ".join([f"step {step}/{self._num_steps}", *losses, rate, speed, memory, left]), flush=True)

    def heldout(self, step: int, loss: float) -> None:
        """Show the held-out loss of a step from now on."""
        self._heldout = loss
        if self._live is not None:
            self._live.heldout(step, loss)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)


def _make_bar(num_steps: int, done: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
    bar = Progress(BarColumn(bar_width=BAR_WIDTH), text, console=Console())
    return bar, bar.add_task("training", total=num_steps, completed=done, text=f"{done}/{num_steps}")


def join_what_fits(parts: Sequence[str], width: int) -> str:
    """Join parts in order of importance until the next one would exceed the width.

    Example:
        >>> join_what_fits(["12/400", "loss 0.8345", "3m10s left", "541 MB"], 32)
        '12/400  loss 0.8345  3m10s left'
    """
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text = f"{text}  {part}"
    return text
