"""What a run writes while it goes on: metrics, the loss picture, a live line.

`metrics.jsonl` gets one object a step and one an evaluation; everything that later shows or compares runs reads only that.
Questionable on purpose: no logging framework. On a terminal one line with a bar is renewed; in a log a plain line comes every
few seconds.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from instil.errors import RunError
from instil.files import atomic_file, sync_path, write_text_atomic

PLAIN_LINE_EVERY = 5.0
BAR_WIDTH = 24


class Metrics:
    """The run's `metrics.jsonl`, one JSON object a line, in the order of the steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; it is with the operating system when this returns."""
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=True) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        sync_path(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a run's metrics; lines that a crash or a disk damaged are left out.

    Args:
        path: The `metrics.jsonl`; a missing file gives no lines.

    Raises:
        RunError: If it cannot be read, or a line that is whole is no JSON object.
    """
    lines: list[dict[str, Any]] = []
    for number, found in _whole_lines(path):
        if not isinstance(found, dict):
            raise RunError(
                f"{path}:{number}: a JSON {type(found).__name__}; expected an object; mend it, or name another run"
            )
        lines.append(found)
    return lines


def _whole_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Give number and value of each line that is JSON. Only a newline ends one: answers may hold what Unicode calls a line's end."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); expected JSON lines; name another run") from None
    for number, line in enumerate(text.split("\n"), start=1):
        with contextlib.suppress(ValueError):
            yield number, json.loads(line)


def rewind_lines(path: Path, *, step: int) -> int:
    """Remove the lines of later steps and damaged ones, so that a resumed run writes each step once; count the trained steps left."""
    if not path.exists():
        return 0
    found = (line for _, line in _whole_lines(path) if isinstance(line, dict))
    kept = [line for line in found if isinstance(line.get("step"), int) and line["step"] <= step]
    write_text_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    return len({line["step"] for line in kept if "loss" in line})


def draw_loss(metrics: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and held-out loss over the steps into a PNG, in one move."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.12, top=0.97)  # a layout engine would draw everything twice
    axes = figure.subplots()
    trained = [(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None]
    heldout = [(line["step"], line["heldout_loss"]) for line in metrics if line.get("heldout_loss") is not None]
    if trained:
        axes.plot(*zip(*trained, strict=True), linewidth=0.6, alpha=0.35, color="tab:blue")
        axes.plot(*zip(*_smooth(trained), strict=True), linewidth=1.6, color="tab:blue", label="training")
    if heldout:
        axes.plot(*zip(*heldout, strict=True), marker="o", markersize=3, color="tab:orange", label="held-out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)
    if trained or heldout:
        axes.legend()
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Average each point with the few before it."""
    width = max(1, len(points) // 50)
    values = [value for _, value in points]
    return [
        (step, sum(values[max(0, place - width + 1) : place + 1]) / len(values[max(0, place - width + 1) : place + 1]))
        for place, (step, _) in enumerate(points)
    ]


class LiveLine:
    """One line that says how the run goes: a bar on a terminal, a plain line now and then in a log."""

    def __init__(self, *, num_steps: int, done: int, quiet: bool = False) -> None:
        self._num_steps = num_steps
        self._first = done
        self._start = time.monotonic()
        self._last_plain = 0.0
        self._heldout: float | None = None
        self._quiet = quiet
        self._bar: Any = None
        if not quiet and sys.stdout.isatty():
            self._bar, self._task = _make_bar(num_steps, done)

    def __enter__(self) -> LiveLine:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, line: Mapping[str, Any]) -> None:
        """Show a step's metrics line."""
        if self._quiet:
            return
        step, now = line["step"], time.monotonic()
        left = (now - self._start) / max(1, step - self._first) * (self._num_steps - step)
        speed = f"{line['tokens'] / max(1e-9, line['seconds']['total']):,.0f} tokens/s"
        losses = [f"loss {line['loss']:.4f}", *([f"held-out {self._heldout:.4f}"] if self._heldout is not None else [])]
        rate, memory = f"lr {line['learning_rate']:.2e}", f"{line['memory_mb']:,.0f} MB"
        if self._bar is not None:
            parts = [f"{step}/{self._num_steps}", *losses, f"{minutes(left)} left", speed, rate, memory]
            text = as_many_as_fit(parts, self._bar.console.width - BAR_WIDTH - 1)
            self._bar.update(self._task, completed=step, text=text)
        elif now - self._last_plain >= PLAIN_LINE_EVERY or step in (self._num_steps, self._first + 1):
            self._last_plain = now
            print(
                "  ".join([f"step {step}/{self._num_steps}", *losses, rate, speed, memory, f"{minutes(left)} left"]),
                flush=True,
            )

    def heldout(self, loss: float) -> None:
        """Show the latest held-out loss from now on."""
        self._heldout = loss

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


def as_many_as_fit(parts: Sequence[str], width: int) -> str:
    """Join parts, the most important first, as far as they fit into a width.

    Example:
        >>> as_many_as_fit(["12/400", "loss 0.8345", "3m10s left", "541 MB"], 32)
        '12/400  loss 0.8345  3m10s left'
    """
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text = f"{text}  {part}"
    return text


def minutes(seconds: float) -> str:
    """Say a duration in words.

    Example:
        >>> minutes(42), minutes(3900)
        ('42s', '1h05m')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def memory_mb() -> float:
    """Give the memory in use: of this process, or on the GPU where there is one."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / 2**20
    return rss_mb()


def rss_mb() -> float:
    """Give the resident size of this process, in MB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def peak_rss_mb() -> float:
    """Give the largest resident size that this process has had, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
