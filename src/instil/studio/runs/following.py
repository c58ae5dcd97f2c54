"""The events of a run that goes on: steps, answers, phases, and what its log got."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from instil.studio.events import event
from instil.studio.jobs.log import read_from
from instil.studio.jobs.records import Job
from instil.studio.runs.charts import charts_of
from instil.studio.runs.curves import curves_of
from instil.studio.runs.holder import holder_of
from instil.training.records.run_folder import RunPaths

LOOK_SECONDS = 0.2
"""How often the folder is looked at: a new step is on the page within half a second."""


def mark(number: int, offset: int) -> str:
    """Return a place in the logs of a run: the job, and the byte in its log.

    Example:
        >>> mark(3, 120), place("3-120"), place("x")
        ('3-120', (3, 120), (0, 0))
    """
    return f"{number}-{offset}"


def place(text: str) -> tuple[int, int]:
    """Return the job and the byte that a mark names; zeros for a text that is none."""
    number, _, offset = text.partition("-")
    return (int(number), int(offset)) if number.isdecimal() and offset.isdecimal() else (0, 0)


async def run_events(
    folder: Path, job: Callable[[], Job | None], log: Callable[[int], Path], *, start: str
) -> AsyncIterator[str]:
    """Yield the events of a run.

    ``metrics``: the metrics grew or were replaced. ``samples``: there are new answers. ``state``: phase or state may
    have changed. ``charts``: there are other charts than before. ``log``: what was appended. ``job``: another job
    writes the run now.

    Args:
        folder: The run folder, which may not exist yet.
        job: Returns the latest job that writes the run.
        log: Returns the log of a job.
        start: The `mark` up to which the page has the log.
    """
    number, offset = place(start)
    before: dict[str, object] = {}
    while True:
        now, data, found = await asyncio.to_thread(_look, folder, job, log, number, offset)
        news = "".join(event(name, None) for name, value in found.items() if before and value != before[name])
        before = found
        if now != number:
            number, offset = now, 0
            news += event("job", str(now))
        elif data:
            offset += len(data)
            news += event("log", data.decode("utf-8", "replace"), identity=mark(number, offset))
        yield news
        await asyncio.sleep(LOOK_SECONDS)


def _look(
    folder: Path, job: Callable[[], Job | None], log: Callable[[int], Path], number: int, offset: int
) -> tuple[int, bytes, dict[str, object]]:
    """Return the number of the job, what its log got, and a value for each event that changes when it is due."""
    paths, found = RunPaths(folder), job()
    curves = curves_of(paths.metrics)
    if _stamp(paths.metrics) is not None:
        curves.read(LOOK_SECONDS)
    state = (
        None if found is None else (found.state, found.stops),
        holder_of(folder),
        [path.exists() for path in (paths.recipe, paths.card, paths.results)],
        _stamp(paths.checkpoints),
    )
    signatures: dict[str, object] = {
        "metrics": (_stamp(paths.metrics), curves.generation),
        "samples": _stamp(paths.samples),
        "state": state,
        "charts": charts_of(curves),
    }
    now = 0 if found is None else found.number
    return now, read_from(log(now), offset) if now and now == number else b"", signatures


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
