"""What the page of a run shows, read from its folder and from the log of its job; each part on its own.

Why: a file that is damaged is named in its part of the page, and the others are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from instil.errors import RunError
from instil.studio.jobs.records import Job
from instil.studio.runs.curves import Curves, curves_of
from instil.studio.runs.samples import sampled_step
from instil.studio.runs.status import PHASES, Status, phase_of, status_of, total_steps
from instil.training.records.run_folder import RunPaths, read_run_json
from instil.training.records.run_settings import settings_of
from instil.training.records.run_view import warning_texts

LAST_LINES = 12
"""Lines of the log that stand beside the reason why a run ended."""
MOST_WARNINGS = 40


@dataclass(frozen=True, slots=True)
class OneRun:
    """A run as its page reads it.

    Attributes:
        path: Its path below the workspace.
        folder: Its folder, which may not exist yet.
        curves: Its metrics.
        status: What becomes of it.
        settings: Its settings under dotted names; empty before it has a folder.
        problems: What is damaged, one line each.
        log: The end of its job's log; empty for a run of a terminal.
    """

    path: str
    folder: Path
    curves: Curves
    status: Status
    settings: Mapping[str, Any]
    problems: tuple[str, ...]
    log: str


def open_run(path: str, folder: Path, job: Job | None, *, log: str, seconds: float) -> OneRun:
    """Read a run.

    Args:
        path: Its path below the workspace.
        folder: Its folder.
        job: The latest job that writes it.
        log: The end of the job's log.
        seconds: How long reading its metrics may take.
    """
    problems: list[str] = []
    curves = curves_of(RunPaths(folder).metrics)
    try:
        curves.read(seconds)
    except RunError as error:
        problems.append(str(error))
    settings: Mapping[str, Any] = {}
    if RunPaths(folder).recipe.exists():
        try:
            settings = settings_of(folder)
        except RunError as error:
            problems.append(str(error))
    status = status_of(folder, job, curves, log=log)
    return OneRun(path, folder, curves, status, settings, tuple(problems), log if status.job else "")


def status_view(run: OneRun) -> dict[str, Any]:
    """Return what the upper part of the page shows: state, phase, figures, warnings, and why it ended."""
    total = total_steps(run.folder)
    phase = phase_of(
        run.status,
        run.folder,
        run.curves,
        total=total,
        settings=run.settings,
        sampled=sampled_step(RunPaths(run.folder).samples),
        log=run.log,
    )
    step = run.curves.step
    seconds = run.curves.seconds_a_step
    left = (total - step) * seconds if total and seconds and run.status.is_alive and step < total else None
    is_ended_early = run.status.state in ("failed", "stopped")
    return {
        "run": run,
        "status": run.status,
        "phase": phase,
        "phases": PHASES,
        "reached": PHASES.index(phase) if phase else -1,
        "total": total,
        "step": step,
        "left": left,
        "figures": _figures(run.curves),
        "memory": _memory(run),
        "last_lines": run.log.splitlines()[-LAST_LINES:] if is_ended_early else [],
        "warnings": _warnings(run)[:MOST_WARNINGS],
        "damaged": run.curves.damaged,
        "can_resume": _can_resume(run),
        "is_whole": run.curves.is_whole,
    }


def _figures(curves: Curves) -> dict[str, Any]:
    """Return the latest figures; None where there is none."""
    last = curves.last
    heldout = curves.heldout("heldout_loss")
    best = min((point for point in heldout if point[0] > 0), key=lambda point: point[1], default=None)
    won = curves.heldout("heldout_accuracy")
    speed = curves.columns.get("speed")
    return {
        "loss": _finite(last.get("loss")),
        "heldout": heldout[-1] if heldout else None,
        "best": best,
        "won": won[-1] if won else None,
        "learning_rate": _finite(last.get("learning_rate")),
        "speed": speed[-1] if speed else None,
        "memory_mb": _finite(last.get("memory_mb")),
        "seconds": curves.seconds or None,
    }


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value and abs(value) != float("inf") else None


def _memory(run: OneRun) -> tuple[float, int] | None:
    """Return the memory at the last step and the machine's, in bytes, where a run was killed: often there was too little."""
    reason, used = run.status.reason, _finite(run.curves.last.get("memory_mb"))
    if reason is None or reason[0] not in ("jobs.killed_hard", "run.process_gone") or used is None:
        return None
    return used * 2**20, psutil.virtual_memory().total


def _can_resume(run: OneRun) -> bool:
    return run.status.state in ("stopped", "failed", "not finished") and RunPaths(run.folder).recipe.exists()


def _warnings(run: OneRun) -> list[str]:
    """Return the warnings of the folder and of the log, each once."""
    paths = RunPaths(run.folder)
    found = [*run.problems]
    for path in (paths.results, paths.ledger):
        try:
            found += warning_texts(read_run_json(path))
        except RunError as error:
            found.append(str(error))
    for line in run.curves.others:
        failures = line.get("failures")
        found += [f"step {line['step']}: {text}" for text in failures] if isinstance(failures, list) else []
    found += [line.removeprefix("warning: ") for line in run.log.splitlines() if line.startswith("warning: ")]
    return list(dict.fromkeys(found))


def card_of(folder: Path) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
    """Return the run card as it was printed: title and facts of each group.

    Raises:
        RunError: If it is damaged.
    """
    path = RunPaths(folder).card
    try:
        groups = read_run_json(path).get("groups", [])
        return [
            (str(group["title"]), [(str(name), str(value)) for name, value in group["facts"]])
            for group in groups
            if group["facts"]
        ]
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{path}: damaged. Expected groups with facts. Remove it; it is only shown.") from None
