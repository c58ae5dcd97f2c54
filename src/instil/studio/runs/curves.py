"""The metrics of a run, followed: what was appended is read from where the last reading ended, whole lines only.

Why not `read_metrics`: as dictionaries, 100,000 steps take 200 MB and a second. Here each metric is an array of numbers,
and a reading may be bounded in time; what it has not reached is drawn from lines taken here and there.
"""

from __future__ import annotations

import math
import os
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from instil.errors import RunError
from instil.studio.lttb import Point, lttb
from instil.studio.runs.lines import value_of, values_of, whole_lines

COLUMNS = (
    "loss", "learning_rate", "gradient_norm", "memory_mb", "accuracy", "margin", "chosen_reward", "rejected_reward",
    "drift",
)  # fmt: skip
"""Metrics of a step that are drawn as they are."""
SPEED, SMOOTH = "speed", "smooth"
"""Tokens a second, and the smoothed loss: made from the lines."""
MOST_POINTS = 1_000
"""Points of a line; more than a screen has columns for."""
SMOOTHING = 0.9
"""Weight of the smoothed value before in the one after it."""
DRAFT_LINES = 500
"""Lines that stand for a part that has not been read yet."""
LONGEST_LINE = 1 << 16
"""Bytes in which a draft looks for a whole line."""
_MARK = 200
"""Bytes before the place of the last reading that must still be there at the next one."""
_LARGEST_STEP = 2**32 - 1
_SOME = 1_000
"""Steps in which a metric must have a value to be drawn."""
WAIT_SECONDS = 0.05
"""How long a request waits for another one that reads."""
_BUCKETS = 2_000
"""Parts of a long line of which the least and the greatest value go into the down-sampling."""


class Curves:
    """The metrics of one run. Threads may share it.

    Args:
        path: The `metrics.jsonl`. It may be missing, grow, and be replaced: a resumed run writes it anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._reader = threading.Lock()
        self.generation = 0
        self._reset()

    def _reset(self) -> None:
        self.generation += 1
        self._inode, self._offset, self._mark = 0, 0, b""
        self._smooth = (0.0, 0.0)  # mean, and share of its weights
        self.is_whole = True
        self.steps = array("I")
        self.columns: dict[str, array[float]] = {}
        self.others: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}
        self.seconds = 0.0
        self.damaged = 0
        self._thin: dict[str, tuple[int, list[Point]]] = {}
        self._draft: list[dict[str, Any]] | None = None
        self._keys: tuple[str, ...] = ()

    def read(self, seconds: float = math.inf) -> bool:
        """Read what was appended; return whether the file was read to its last whole line.

        Args:
            seconds: How long it may take; at least one block is read.

        Raises:
            RunError: If it cannot be read.
        """
        # Who comes while another request reads for long takes what there is.
        if not self._reader.acquire(timeout=WAIT_SECONDS if math.isfinite(seconds) else -1):
            return self.is_whole
        try:
            with self._path.open("rb") as file:
                self._read_from(file, time.monotonic() + seconds)
        except FileNotFoundError:
            with self._lock:
                if self._offset:
                    self._reset()
        except OSError as error:
            raise RunError(
                f"{self._path}: cannot be read ({error.strerror}). Expected a file of JSON lines. Look at its permissions."
            ) from None
        finally:
            self._reader.release()
        return self.is_whole

    def _read_from(self, file: BinaryIO, deadline: float) -> None:
        status = os.fstat(file.fileno())
        if self._is_another(file, status):
            with self._lock:
                self._reset()
                self._inode = status.st_ino
        while True:
            whole = whole_lines(file, self._offset)
            with self._lock:
                self.is_whole = not whole
                if not whole:
                    return
                self._take(whole)
                if time.monotonic() > deadline:
                    self._look_at_the_end(file)
                    return

    def _is_another(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Return whether the file is not the one of the last reading, or not a continuation of it."""
        if status.st_ino != self._inode or status.st_size < self._offset:
            return True
        # A number of an inode may be given again; then the bytes differ.
        file.seek(self._offset - len(self._mark))
        return bool(file.read(len(self._mark)) != self._mark)

    def _look_at_the_end(self, file: BinaryIO) -> None:
        """Take the last lines as the latest ones, so that a page shows where the run is before all of it is read."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(self._offset, size - LONGEST_LINE))
        lines = [value for line in file.read().split(b"\n")[:-1] if (value := _step_line(line)) is not None]
        self.latest = lines[-1] if lines else self.latest
        self.last = next((line for line in reversed(lines) if "loss" in line), self.last)

    def _take(self, whole: bytes) -> None:
        lines = whole.split(b"\n")[:-1]
        for line, value in zip(lines, values_of(lines), strict=True):
            step = value.get("step") if type(value) is dict else None
            if type(step) is not int or not 0 <= step <= _LARGEST_STEP:
                self.damaged += bool(line.strip())
            elif "loss" in value:
                self._take_step(step, value)
            else:
                self.others.append(value)
                self.latest = value
        self._offset += len(whole)
        self._mark = (self._mark + whole)[-_MARK:]

    def _take_step(self, step: int, line: dict[str, Any]) -> None:
        if (keys := tuple(line)) != self._keys:  # of most lines they are those of the line before
            self._keys = keys
            for name in (*COLUMNS, SPEED, SMOOTH):
                if name not in self.columns and (name in line or name in (SPEED, SMOOTH)):
                    self.columns[name] = array("f", [math.nan]) * len(self.steps)
        total, tokens = _total_seconds(line), line.get("tokens")
        self.steps.append(step)
        self.last = self.latest = line
        self.seconds += total
        for name, column in self.columns.items():
            if name == SPEED:
                column.append(tokens / total if type(tokens) is int and total > 0 else math.nan)
            elif name == SMOOTH:
                column.append(self._smoothed(_real(line["loss"])))
            else:
                column.append(_real(line.get(name)))

    def _smoothed(self, loss: float) -> float:
        if not math.isfinite(loss):
            return math.nan
        mean, share = self._smooth
        mean, share = self._smooth = SMOOTHING * mean + (1 - SMOOTHING) * loss, SMOOTHING * share + (1 - SMOOTHING)
        return mean / share

    @property
    def step(self) -> int:
        """The last step of the file, also where the steps before it have not been read yet; 0 before the first one."""
        return int(self.last.get("step", 0))

    def names(self) -> list[str]:
        """Return the metrics that there are points for; those of evaluations and tasks as in their lines."""
        with self._lock:
            others = dict.fromkeys(name for line in self.others for name in line if _number(line[name]) is not None)
            others.pop("step", None)
            others.pop("best", None)
            drawn = [name for name, column in self.columns.items() if any(map(math.isfinite, column[:_SOME]))]
            return [*drawn, *others, *(["tasks"] if any("tasks" in line for line in self.others) else [])]

    def line(self, name: str, *, start: float = -math.inf, end: float = math.inf) -> list[Point]:
        """Return the points of a metric of the steps, down-sampled, with those of a draft for what was not read.

        Args:
            name: One of `COLUMNS`, `SPEED` or `SMOOTH`.
            start: First step.
            end: Last step.
        """
        with self._lock:
            column = self.columns.get(name, array("f"))
            if start == -math.inf and end == math.inf:
                points = self._whole_line(name, column)
            else:
                first, last = bisect_left(self.steps, start), bisect_right(self.steps, end)
                points = _thinned(self.steps[first:last], column[first:last])
            if not self.is_whole:
                points = [*points, *(point for point in self._draft_of(name) if start <= point[0] <= end)]
                points = lttb(points, MOST_POINTS)
        return [(x, float(f"{y:.6g}")) for x, y in points]

    def _whole_line(self, name: str, column: array[float]) -> list[Point]:
        """Return the whole line; what was chosen for the steps before stays until a hundredth has come to them."""
        count, chosen = self._thin.get(name, (0, []))
        if len(column) - count > max(100, count // 100):
            count, chosen = len(column), _thinned(self.steps, column)
            self._thin[name] = count, chosen
        return [*chosen, *_points(self.steps[count:], column[count:])]

    def _draft_of(self, name: str) -> list[Point]:
        if self._draft is None:
            self._draft = _lines_between(self._path, self._offset)
        known = self.steps[-1] if self.steps else 0
        lines = [line for line in self._draft if line["step"] > known]
        found = [(line["step"], self._drafted(line, name)) for line in lines]
        return [(step, value) for step, value in found if value is not None and math.isfinite(value)]

    @staticmethod
    def _drafted(line: Mapping[str, Any], name: str) -> float | None:
        if name == SPEED:
            tokens, total = _number(line.get("tokens")), _total_seconds(line)
            return tokens / total if tokens is not None and total > 0 else None
        return None if name == SMOOTH else _number(line.get(name))

    def heldout(self, name: str, *, start: float = -math.inf, end: float = math.inf) -> list[Point]:
        """Return the points of a metric of the evaluations, such as ``heldout_loss``."""
        with self._lock:
            found = [(line["step"], _number(line.get(name))) for line in self.others if start <= line["step"] <= end]
        return lttb([(x, y) for x, y in found if y is not None and math.isfinite(y)], MOST_POINTS)

    def tasks(self) -> dict[str, list[Point]]:
        """Return the figures of tasks during training, as ``task.figure``."""
        found: dict[str, list[Point]] = {}
        with self._lock:
            lines = [(line["step"], line["tasks"]) for line in self.others if isinstance(line.get("tasks"), dict)]
        for step, figures in lines:
            for name, figure in figures.items():
                value = _number(figure.get("value")) if isinstance(figure, dict) else None
                if value is not None and math.isfinite(value):
                    found.setdefault(name, []).append((step, value))
        return found

    @property
    def seconds_a_step(self) -> float | None:
        """Mean seconds of a step; None before the first one."""
        return self.seconds / len(self.steps) if self.steps else None


def _thinned(steps: array[int], values: array[float]) -> list[Point]:
    """Return a line down-sampled by LTTB; of a long one, from the least and the greatest value of many parts of it.

    Source: J. Van Der Donckt et al., "MinMaxLTTB" (IEEE VIS 2023): four candidates a point change the picture little.
    """
    if len(values) <= 4 * _BUCKETS or not all(map(math.isfinite, values)):
        return lttb(_points(steps, values), MOST_POINTS)
    chosen = [0]
    for number in range(_BUCKETS):
        first = len(values) * number // _BUCKETS
        part = values[first : len(values) * (number + 1) // _BUCKETS]
        chosen += sorted((first + part.index(min(part)), first + part.index(max(part))))
    chosen.append(len(values) - 1)
    return lttb([(steps[at], values[at]) for at in dict.fromkeys(chosen)], MOST_POINTS)


def _points(steps: Sequence[int], values: Sequence[float]) -> list[Point]:
    return [(step, value) for step, value in zip(steps, values, strict=False) if math.isfinite(value)]


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _real(value: Any) -> float:
    """Return a number of the metrics; NaN for what is none."""
    if type(value) is float:
        return value
    try:
        return float(value) if type(value) is int else math.nan
    except OverflowError:
        return math.nan


def _step_line(line: bytes) -> dict[str, Any] | None:
    """Return a line of the metrics, or None if it is damaged."""
    value = value_of(line)
    step = value.get("step") if isinstance(value, dict) else None
    return value if type(step) is int and 0 <= step <= _LARGEST_STEP else None


def _total_seconds(line: Mapping[str, Any]) -> float:
    seconds = line.get("seconds")
    total = _number(seconds.get("total")) if isinstance(seconds, dict) else None
    return total if total is not None and math.isfinite(total) else 0.0


def _lines_between(path: Path, offset: int) -> list[dict[str, Any]]:
    """Return lines of steps at even distances of a part of a file, without reading the rest of it."""
    lines = []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for number in range(DRAFT_LINES):
            file.seek(offset + (size - offset) * number // DRAFT_LINES)
            file.readline(LONGEST_LINE)
            value = _step_line(file.readline(LONGEST_LINE))
            if value is not None and "loss" in value:
                lines.append(value)
    return list({line["step"]: line for line in lines}.values())


_KEPT: OrderedDict[Path, Curves] = OrderedDict()
_KEPT_LOCK = threading.Lock()
_MOST_KEPT = 8
"""Runs whose curves stay in memory: 100,000 steps take 4 MB."""


def curves_of(path: Path) -> Curves:
    """Return the metrics of a run, as far as they were read before.

    Args:
        path: The `metrics.jsonl`.
    """
    with _KEPT_LOCK:
        found = _KEPT.pop(path, None) or Curves(path)
        _KEPT[path] = found
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
        return found
