"""What becomes of a run: its state, the phase that it is in, and why it ended; from its folder, its log and its job."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from instil.errors import RunError
from instil.files import LOCK
from instil.studio.jobs.records import Job
from instil.studio.runs.curves import Curves
from instil.studio.runs.holder import holder_of
from instil.training.records.due import when_due
from instil.training.records.run_folder import RunPaths, read_run_json

State = Literal["queued", "running", "finished", "stopped", "failed", "not finished"]
Phase = Literal["waiting", "reading", "loading", "preparing", "training", "evaluating", "saving", "finished"]
PHASES: tuple[Phase, ...] = (
    "waiting", "reading", "loading", "preparing", "training", "evaluating", "saving", "finished",
)  # fmt: skip
"""What a run does, in order. `evaluating` and `saving` come again and again."""
Reason = tuple[str, dict[str, object]]
"""Key of a text and its values."""
LATER_SECONDS = 5.0
"""A folder that was written to so long after its job ended was written by a later process."""
_NO_MEMORY = re.compile(r"out of memory|OutOfMemoryError|MemoryError|cannot allocate memory", re.IGNORECASE)
_STOPPED_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Status:
    """What becomes of a run.

    Attributes:
        state: Where it is.
        job: The job that wrote it last; None for a run that was started in a terminal.
        process: The process that writes to it now, or None.
        reason: Why it ended before its end, or None.
    """

    state: State
    job: Job | None
    process: int | None = None
    reason: Reason | None = None

    @property
    def is_alive(self) -> bool:
        """Whether a process works on it."""
        return self.state == "running"


def job_of(jobs: Sequence[Job], run: str) -> Job | None:
    """Return the latest job that writes a run, by the run's path below the workspace.

    Args:
        jobs: All jobs, the newest first.
        run: The path.
    """
    return next((job for job in jobs if job.run == run and job.argv[0] == "train"), None)


def status_of(folder: Path, job: Job | None, curves: Curves, *, log: str = "") -> Status:
    """Return what becomes of a run.

    Args:
        folder: Its folder, which may not exist yet.
        job: The latest job that writes it.
        curves: Its metrics.
        log: The end of the job's log.
    """
    paths = RunPaths(folder)
    if job is not None and job.state in ("queued", "running"):
        return Status("queued" if job.state == "queued" else "running", job, holder_of(folder))
    process = holder_of(folder)
    if process is not None:
        return Status("running", None, process)
    job = None if job is None or _is_later(paths, job) else job
    if paths.results.exists():
        return Status("finished", job)
    saved = _saved_step(paths)
    if job is not None and (job.state == "stopped" or job.exit_code in _STOPPED_CODES):
        reason: Reason = ("run.stopped_saved", {"step": saved}) if saved == curves.step and saved else _unsaved(saved)
        return Status("stopped", job, reason=reason)
    if job is not None:
        return Status("failed", job, reason=_why_failed(job, log))
    if saved and saved == curves.step:
        return Status("stopped", None, reason=("run.stopped_saved", {"step": saved}))
    left = _process_named(folder)
    if left is None:
        return Status("not finished", None)
    return Status("failed", None, reason=("run.process_gone", {"process": left}))


def _unsaved(saved: int) -> Reason:
    return ("run.stopped_earlier", {"step": saved}) if saved else ("run.stopped_nothing", {})


def _why_failed(job: Job, log: str) -> Reason:
    if _NO_MEMORY.search(log):
        return "run.no_memory", {}
    if job.exit_code == 128 + signal.SIGKILL:  # one of its processes was killed
        return "jobs.killed_hard", {}
    return job.failure or ("run.ended_without_results", {})


def _is_later(paths: RunPaths, job: Job) -> bool:
    """Return whether the folder was written to after its job, so that another process has the last word."""
    if job.ended is None:
        return False
    times = [0.0]
    for path in (paths.metrics, paths.results, paths.card):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times) > job.ended.timestamp() + LATER_SECONDS


def _saved_step(paths: RunPaths) -> int:
    """Return the step of the newest complete checkpoint, or 0."""
    steps = [0]
    with contextlib.suppress(OSError):
        for folder in paths.checkpoints.iterdir():
            number = folder.name.removeprefix("step-")
            if number.isdecimal() and (folder / "manifest.json").exists():
                steps.append(int(number))
    return max(steps)


def _process_named(folder: Path) -> int | None:
    """Return the process that wrote its number into the lock, dead or alive."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / LOCK).read_text(encoding="utf-8", errors="replace"))
    return None


def total_steps(folder: Path) -> int | None:
    """Return how many steps a run will have, as its card says; None if that is not known yet.

    Why from the card: the recipe may name epochs, and only the run knows how many examples there are.
    """
    try:
        groups = read_run_json(RunPaths(folder).card).get("groups", [])
        facts = {str(name): str(value) for group in groups for name, value in group["facts"]}
    except (RunError, KeyError, TypeError, ValueError):
        return None
    number = re.match(r"([\d,]+) of ", facts.get("steps", ""))
    return int(number[1].replace(",", "")) if number else None


def phase_of(
    status: Status,
    folder: Path,
    curves: Curves,
    *,
    total: int | None,
    settings: Mapping[str, Any],
    sampled: int,
    log: str = "",
) -> Phase | None:
    """Return what a run does now; None for one that has ended before its end.

    Args:
        status: What becomes of it.
        folder: Its folder.
        curves: Its metrics.
        total: Its number of steps, if known.
        settings: Its settings under dotted names; empty before it has a folder.
        sampled: The last step whose sample answers were written, or -1.
        log: The end of its log; empty for a run of a terminal.
    """
    if status.state in ("queued", "finished"):
        return "waiting" if status.state == "queued" else "finished"
    if status.state != "running":
        return None
    paths, latest = RunPaths(folder), curves.latest
    if not paths.recipe.exists():
        return "loading" if "rows in " in log else "reading"
    if not paths.card.exists():
        return "preparing"
    if not latest:
        return "evaluating" if settings.get("evaluate.at_start", True) else "training"
    return _phase_after(latest, paths, total=total, settings=settings, sampled=sampled)


def _phase_after(
    latest: Mapping[str, Any], paths: RunPaths, *, total: int | None, settings: Mapping[str, Any], sampled: int
) -> Phase:
    """Return what follows the latest line of the metrics."""
    step = int(latest["step"])
    due = when_due(
        total or 1, evaluate_every=settings.get("evaluate.every"), save_every=settings.get("checkpoint.every")
    )
    is_saved = (paths.checkpoints / f"step-{step:06d}").exists()
    if "loss" in latest:
        if total is not None and due.evaluates(step):
            return "evaluating"
        return "saving" if total is not None and due.saves(step) and not is_saved else "training"
    # An evaluation is followed by its checkpoint, then by its answers, then by the next step.
    if step > 0 and (total is None or due.saves(step)) and not is_saved:
        return "saving"
    if "heldout_loss" in latest and sampled < step:
        return "evaluating"
    return "saving" if step == total else "training"
