"""The jobs: what runs, waits and has ended, each with its log; stop and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse

from instil.studio.events import EVERY_SECONDS, event, stream
from instil.studio.jobs.log import log_end, read_from
from instil.studio.jobs.records import Job
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, page
from instil.studio.studio import Studio, studio_of

router = APIRouter()
Back = Annotated[str, Form()]


def jobs_view(jobs: Sequence[Job], *, now: datetime) -> dict[str, Any]:
    """Return what the list of jobs shows."""
    return {"jobs": [job_view(job, now=now) for job in jobs]}


def job_view(job: Job, *, now: datetime) -> dict[str, Any]:
    """Return what a page shows of a job: itself, the seconds it took so far, and why it failed."""
    seconds = None if job.started is None else ((job.ended or now) - job.started).total_seconds()
    return {"job": job, "seconds": seconds, "reason": job.failure}


def _job(studio: Studio, number: int) -> Job:
    job = studio.queue.job(number)
    if job is None:
        raise PageProblem(404, "problems.no_job", number=number)
    return job


@router.get("/jobs")
def jobs(request: Request) -> Response:
    """Show the list."""
    return page(request, "jobs.html.jinja", jobs_view(studio_of(request).queue.jobs(), now=now()))


@router.get("/jobs/{number}")
def job(request: Request, number: int) -> Response:
    """Show a job and the end of its log."""
    studio = studio_of(request)
    found = _job(studio, number)
    log, offset, is_cut = log_end(studio.queue.folder(number).log)
    context = job_view(found, now=now()) | {"log": log, "offset": offset, "is_cut": is_cut}
    return page(request, "job.html.jinja", context)


@router.get("/jobs/{number}/log")
def log(request: Request, number: int) -> Response:
    """Return the whole log as text."""
    studio = studio_of(request)
    _job(studio, number)
    path = studio.queue.folder(number).log
    if not path.exists():
        return Response("", media_type="text/plain")
    return FileResponse(path, media_type="text/plain; charset=utf-8")


@router.get("/jobs/{number}/events")
async def events(request: Request, number: int, start: int = 0) -> Response:
    """Stream ``log``: what is appended to the log; and ``job`` when the job's state changes."""
    studio = studio_of(request)
    await asyncio.to_thread(_job, studio, number)
    sent = request.headers.get("last-event-id", "")
    return stream(request, _news(studio, number, int(sent) if sent.isdecimal() else max(0, start)))


async def _news(studio: Studio, number: int, offset: int) -> AsyncIterator[str]:
    path = studio.queue.folder(number).log
    before = await asyncio.to_thread(studio.queue.job, number)
    while True:
        data = await asyncio.to_thread(read_from, path, offset)
        now = await asyncio.to_thread(studio.queue.job, number)
        news = ""
        if data:
            offset += len(data)
            news += event("log", data.decode("utf-8", "replace"), identity=str(offset))
        if now is not None and before is not None and (now.state, now.stops) != (before.state, before.stops):
            before = now
            news += event("job", None)
        yield news
        await asyncio.sleep(EVERY_SECONDS)


@router.post("/jobs/{number}/stop")
def stop(request: Request, number: int, level: Annotated[int, Form(ge=1, le=3)], back: Back = "/jobs") -> Response:
    """Ask a running job to stop."""
    studio = studio_of(request)
    _job(studio, number)
    studio.queue.stop(number, level=level)
    return back_to(back)


@router.post("/jobs/{number}/cancel")
def cancel(request: Request, number: int, back: Back = "/jobs") -> Response:
    """Take a job out of the queue; stop it if it was started a moment ago."""
    studio = studio_of(request)
    _job(studio, number)
    if not studio.queue.cancel(number):
        studio.queue.stop(number, level=1)
    return back_to(back)


@router.post("/jobs/{number}/remove")
def remove(request: Request, number: int, back: Back = "/jobs") -> Response:
    """Remove an ended job from the list, with its log; a run that it wrote stays."""
    studio = studio_of(request)
    _job(studio, number)
    studio.queue.remove(number)
    return back_to(back)


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now().astimezone()
