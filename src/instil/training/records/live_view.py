"""How far a run is, in a notebook: one output with a bar and a curve, which replaces itself.

Why: IPython is no dependency. It is there where a kernel runs this program, and nowhere else is this used.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from instil.training.records.loss_figure import points_of
from instil.views.chart import Point
from instil.views.curve import MOST_POINTS, finite, loss_svg
from instil.views.html import frame

SECONDS_BETWEEN_UPDATES = 0.5
_SHARE_OF_TIME = 0.02
"""Largest share of the time that is spent on drawing."""


class Display(Protocol):
    """IPython's `display`."""

    def __call__(self, data: Mapping[str, str], *, raw: bool, display_id: str, update: bool) -> Any:
        """Show an output, or replace the one with this id."""


def kernel_display() -> Display | None:
    """Return IPython's `display` if a notebook's kernel runs this program, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):  # IPython in a terminal has no kernel
        return None
    from IPython.display import display

    show: Display = display
    return show


class LiveView:
    """The output of a run that goes on. It appears with the first call of `show`."""

    def __init__(self, display: Display, *, num_steps: int, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        """Make the output of a run.

        Args:
            display: Shows it.
            num_steps: Steps of the run.
            earlier: Metrics of the steps before, if the run is resumed.
        """
        self._display, self._num_steps = display, num_steps
        self._id = f"instil-{uuid.uuid4().hex}"
        self._is_shown = False
        self._trained, self._heldout = points_of(earlier, "loss"), points_of(earlier, "heldout_loss")
        self._next_update = 0.0
        self._step, self._words = 0, ""

    def step(self, step: int, loss: float, words: str) -> None:
        """Add a step; the output changes if the last change is long enough ago.

        Args:
            step: The step.
            loss: Its loss.
            words: What stands beside the bar.
        """
        self._step, self._words = step, words
        self._trained += finite([(step, loss)])
        if len(self._trained) > 4 * MOST_POINTS:  # a run of any length has a bounded number of points
            self._trained = _halved(self._trained)
        if time.monotonic() >= self._next_update:
            self.show()

    def heldout(self, step: int, loss: float) -> None:
        """Add a held-out loss; it appears with the next change."""
        self._heldout += finite([(step, loss)])
        if len(self._heldout) > 4 * MOST_POINTS:
            self._heldout = _halved(self._heldout)

    def end(self, error: BaseException | None) -> None:
        """Show the final state."""
        where = f"{self._step:,} of {self._num_steps:,} steps"
        state = "done" if self._step >= self._num_steps else f"ended after {where}"
        self._words = f"{f'{type(error).__name__} after {where}' if error else state}  {self._words}".strip()
        self.show()

    def show(self) -> None:
        """Show the output, or replace it."""
        start = time.monotonic()
        share = min(1.0, self._step / max(1, self._num_steps))
        bar = f'<div class="bar"><div class="fill" style="width:{share:.1%}"></div></div>'
        curve = loss_svg(self._trained, self._heldout, num_steps=self._num_steps)
        page = frame("Training", facts=self._words.split("  "), body=bar + curve)
        data = {"text/html": page, "text/plain": f"training: {self._words}"}
        self._display(data, raw=True, display_id=self._id, update=self._is_shown)
        self._is_shown = True
        now = time.monotonic()
        self._next_update = now + max(SECONDS_BETWEEN_UPDATES, (now - start) / _SHARE_OF_TIME)


def _halved(points: Sequence[Point]) -> list[Point]:
    """Average each point with its neighbour."""
    pairs = zip(points[::2], points[1::2], strict=False)
    odd = points[-1:] if len(points) % 2 else []
    return [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairs] + list(odd)
