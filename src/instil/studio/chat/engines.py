"""The servers of models that the chat talks to: jobs of the lane ``engine``, found again after a restart of the studio.

A server is told by its command line, which has the age of the model in it. So a run that was trained anew is served anew.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from instil.studio.jobs.queue import AT_ONCE
from instil.studio.jobs.records import Job
from instil.studio.studio import Studio

if TYPE_CHECKING:
    from instil.studio.chat.models import ServedModel

IDLE_SECONDS = 600.0
"""How long a model that nobody talks to stays in memory."""
STOP_SECONDS = 30.0
"""How long a server may take to end before it is asked with more force."""
BUSY_SECONDS = 5.0
"""A server that was used so recently is not stopped to make room: an answer is being written."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A server that runs.

    Attributes:
        job: The number of its job.
        port: Its port on loopback; None while it loads the model.
    """

    job: int
    port: int | None


def start_engine(studio: Studio, model: ServedModel) -> int:
    """Return the job that serves a model, after starting it if there is none, and after making room for it."""
    job = find_job(studio, model)
    number = studio.queue.add(model.argv, title=f"serve {model.name}", lane="engine") if job is None else job.number
    mark_used(studio, number)
    return number


def find_job(studio: Studio, model: ServedModel) -> Job | None:
    """Return the job that serves a model or will, or None. One that was asked to stop counts as ended."""
    return next((job for job in _open_jobs(studio) if job.argv == model.argv and not job.stops), None)


def make_room(studio: Studio, needed: set[int]) -> None:
    """Stop the server that was not used for the longest time, if others wait and all places are taken.

    Args:
        studio: The workspace.
        needed: Jobs that the asking chat needs.
    """
    jobs = _open_jobs(studio)
    running = [job for job in jobs if job.state == "running"]
    if len(running) < AT_ONCE["engine"] or any(job.stops for job in running) or len(jobs) == len(running):
        return
    spare = [job for job in running if job.number not in needed and _idle_seconds(studio, job) > BUSY_SECONDS]
    if spare:
        studio.queue.stop(max(spare, key=lambda job: _idle_seconds(studio, job)).number, level=1)


def engine_of(studio: Studio, number: int) -> Engine:
    """Return a running server, with its port once it listens."""
    process = studio.queue.folder(number).process
    port = None
    if process is not None and process.is_alive:
        with contextlib.suppress(psutil.Error):
            listening = [
                connection.laddr.port
                for connection in psutil.Process(process.pid).net_connections(kind="tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
            port = next(iter(listening), None)
    return Engine(number, port)


def mark_used(studio: Studio, number: int) -> None:
    """Record that somebody talks to a server."""
    with contextlib.suppress(FileNotFoundError):
        _used(studio, number).touch()


def stop_idle(studio: Studio) -> None:
    """Stop the servers that nobody talks to, and those that were asked to end and have not. Called again and again."""
    for job in _open_jobs(studio):
        idle = _idle_seconds(studio, job)
        if job.state == "running" and job.stops < 3 and idle > IDLE_SECONDS + job.stops * STOP_SECONDS:
            studio.queue.stop(job.number, level=job.stops + 1)


def _open_jobs(studio: Studio) -> list[Job]:
    return [job for job in studio.queue.jobs() if job.lane == "engine" and job.state in ("queued", "running")]


def _idle_seconds(studio: Studio, job: Job) -> float:
    try:
        last = _used(studio, job.number).stat().st_mtime
    except FileNotFoundError:
        last = job.created.timestamp()
    return time.time() - last


def _used(studio: Studio, number: int) -> Path:
    return studio.queue.folder(number).path / "used"
