"""Inspections of whole files, and fixed copies: jobs whose results stay in the workspace's own folder.

A result is named after the data, the settings and the model, with the times of their files. So it is shown after a reload
and after a restart, and not any more when the file has changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from instil.files import write_json_atomic
from instil.studio.data.subject import Subject
from instil.studio.jobs.records import Job
from instil.studio.studio import Studio
from instil.studio.workspace import OWN, free_path

MOST_RESULTS = 200
"""Results that are kept; the oldest go first."""
State = Literal["none", "queued", "running", "done", "failed"]
What = Literal["inspection", "fix"]


@dataclass(frozen=True, slots=True)
class Result:
    """Where a job of a subject is.

    Attributes:
        state: ``none``: it was not started, or its result is for an older file.
        job: The job, while it is in the list.
        value: What it printed, as JSON values; None unless it is done.
        error: Why it failed, as it said it itself.
        target: The file that it writes, below the workspace; empty for an inspection.
    """

    state: State
    job: Job | None = None
    value: Any = None
    error: str = ""
    target: str = ""


def result_of(studio: Studio, subject: Subject, what: What) -> Result:
    """Return the result of a job, and keep it where the job has just ended."""
    path = _path(studio, subject, what)
    record = _read(path)
    if record is None:
        return Result("none")
    target = record.get("target", "")
    if what == "fix" and record.get("value") is not None and not (studio.root / target).exists():
        return Result("none")  # the copy was removed
    if "value" in record:
        state: State = "failed" if record["error"] else "done"
        return Result(state, studio.queue.job(record["job"]), record["value"], record["error"], target)
    job = studio.queue.job(record["job"])
    if job is None or job.state == "stopped":
        return Result("none")
    if job.state == "queued" or job.state == "running":
        return Result(job.state, job, target=target)
    value, error = printed(studio.queue.folder(job.number).log)
    error = "" if value is not None else error
    write_json_atomic(path, {"job": job.number, "target": target, "value": value, "error": error})
    return Result("failed" if error else "done", job, value, error, target)


def start(studio: Studio, subject: Subject, what: What, *, title: str, target: str = "") -> None:
    """Start a job, unless it runs already."""
    if result_of(studio, subject, what).state in ("queued", "running"):
        return
    argv = [*subject.argv, f"--fix={target}"] if what == "fix" else subject.argv
    number = studio.queue.add(argv, title=title, lane="beside")
    path = _path(studio, subject, what)
    path.parent.mkdir(exist_ok=True)
    _remove_oldest(path.parent)
    write_json_atomic(path, {"job": number, "target": target})


def printed(log: Path) -> tuple[Any, str]:
    """Return the JSON object in a log, and its last line.

    Why: the log has what the command printed on both outputs. A command that ends with an error may have printed its
    result before, as `inspect` does where no row can be trained.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, ""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    start = 0 if text.startswith("{\n") else text.find("\n{\n") + 1
    if start or text.startswith("{\n"):
        try:
            return json.JSONDecoder().raw_decode(text, start)[0], last
        except ValueError:
            return None, last
    return None, last


def fixed_name(studio: Studio, subject: Subject) -> str:
    """Return a name for a fixed copy that no file has, beside the data, or in the workspace where they are no file there."""
    path = Path(subject.data)
    folder = path.parent if (studio.root / path).is_file() else Path()
    stem = path.name.partition(".")[0] or path.name
    return free_path(studio.root, (folder / f"{stem}-fixed").as_posix(), suffix=".jsonl")


def _path(studio: Studio, subject: Subject, what: What) -> Path:
    return studio.root / OWN / "data" / f"{subject.key(studio.root)}-{what}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


def _remove_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(0, len(files) - MOST_RESULTS)]:
        path.unlink(missing_ok=True)
