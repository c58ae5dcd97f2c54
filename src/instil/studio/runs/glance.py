"""What a row of the table shows of the metrics of a run that has ended, without reading every line of them as JSON.

Why: 500 runs of 200 steps are as many lines as one of 100,000. Of steps only the last one, the seconds and a few losses
are shown; a test holds the result equal to that of `read_metrics`.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from instil.studio.lttb import Point
from instil.studio.runs.curves import SMOOTHING
from instil.studio.runs.lines import value_of, values_of, whole_lines

EVERY = 16
"""Lines of steps of a block between two that are read for the small curve."""
_STEP = b'"loss": '
"""What only lines of steps have; quotes in a text of a line have a backslash before them."""
_SECONDS = re.compile(rb'"total": ([0-9.e+-]+)')


class Glance:
    """A look at the metrics of one run. It reads whole lines, and goes on where there was no time left.

    Attributes:
        last: The last line of a step; empty before the first one.
        seconds: Seconds spent in steps.
        others: All lines that are no step.
        losses: Some of the losses, smoothed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._inode = path, 0
        self._reset()

    def _reset(self) -> None:
        self._offset, self._mean = 0, 0.0
        self.last: dict[str, Any] = {}
        self.seconds = 0.0
        self.others: list[dict[str, Any]] = []
        self.losses: list[Point] = []

    def read(self, deadline: float) -> bool:
        """Read what was appended, until a time of the monotonic clock; return whether the end was reached."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:  # a resumed run writes it anew
                    self._reset()
                    self._inode = status.st_ino
                while whole := whole_lines(file, self._offset):
                    self._take(whole)
                    self._offset += len(whole)
                    if time.monotonic() > deadline:
                        return False
                return True
        except FileNotFoundError:
            return True

    def _take(self, whole: bytes) -> None:
        lines = whole.split(b"\n")[:-1]
        steps = [line for line in lines if _STEP in line]
        self.others += filter(_is_record, values_of([line for line in lines if _STEP not in line]))
        self.seconds += sum(map(float, _SECONDS.findall(whole)))
        for value in values_of(steps[::EVERY] if len(steps) > EVERY else steps):
            self._draw(value)
        # The last line may be damaged; then it is the one before it.
        last = next((value for line in reversed(steps) if _is_record(value := value_of(line))), None)
        if last is not None:
            self.last = last
            self._draw(last)

    def _draw(self, line: Any) -> None:
        if not _is_record(line):
            return
        loss, step = line.get("loss"), line["step"]
        if type(loss) is float and loss - loss == 0:
            weight = SMOOTHING**EVERY if self.losses else 0.0
            self._mean = weight * self._mean + (1 - weight) * loss
            if not self.losses or step > self.losses[-1][0]:
                self.losses.append((step, self._mean))


def _is_record(value: Any) -> bool:
    """Return whether a value is a line of the metrics."""
    return isinstance(value, dict) and type(value.get("step")) is int
