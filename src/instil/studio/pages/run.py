"""One run: what it does now, its curves, its answers, its card and log; stop, resume, tags and a note.

Everything is read from the run folder and the job's log. So a run that was started in a terminal looks the same, and a
reload or a restart of the studio changes nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse

from instil.errors import RunError
from instil.studio.catalogue import worded
from instil.studio.events import stream
from instil.studio.jobs.log import log_end
from instil.studio.jobs.records import Job
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, language_of, page
from instil.studio.runs.charts import CHARTS, chart_view, charts_of
from instil.studio.runs.curves import curves_of
from instil.studio.runs.following import mark, run_events
from instil.studio.runs.holder import BETWEEN_SECONDS, signal_holder
from instil.studio.runs.notes import Notes, read_notes, tags_of, write_notes
from instil.studio.runs.one_run import OneRun, card_of, open_run, status_view
from instil.studio.runs.samples import read_samples
from instil.studio.runs.status import job_of
from instil.studio.studio import Studio, studio_of
from instil.training.records.run_folder import RunPaths, is_from_python, is_run, read_run_json
from instil.training.records.run_view import result_rows

READ_SECONDS = 0.1
"""How long a request may read metrics that nobody has read yet; the page asks again for the rest."""
router = APIRouter()
Path_ = Annotated[str, Form()]


def address_of(run: str) -> str:
    """Return the address of a run's page.

    Example:
        >>> address_of("runs/lr 1e-4")
        '/runs/run?run=runs/lr%201e-4'
    """
    return f"/runs/run?run={quote(run)}"


def run_view(run: OneRun, *, job_log: tuple[str, int, bool]) -> dict[str, Any]:
    """Return what the page of a run shows.

    Args:
        run: The run.
        job_log: The end of its job's log, the byte up to which it is, and whether something stands before it.
    """
    notes, problem = Notes(), ""
    try:
        notes = read_notes(run.folder)
    except RunError as error:
        problem = str(error)
    log, offset, is_cut = job_log
    job = run.status.job
    return status_view(run) | {
        "charts": charts_of(run.curves),
        "samples": read_samples(RunPaths(run.folder).samples),
        "notes": notes,
        "notes_problem": problem,
        "card": _or_problem(lambda: card_of(run.folder)),
        "results": _or_problem(lambda: result_rows(read_run_json(RunPaths(run.folder).results))),
        "log": log,
        "is_cut": is_cut,
        "has_folder": run.folder.exists(),
        "start": mark(job.number, offset) if job else mark(0, 0),
        "has_picture": RunPaths(run.folder).picture.exists(),
        "has_evaluation": (run.folder / "evaluation" / "evaluation.json").exists(),
    }


def _or_problem(read: Any) -> Any:
    """Return what is read, or the text of its error."""
    try:
        return read()
    except RunError as error:
        return str(error)


def found_run(studio: Studio, path: str) -> tuple[str, Path, Job | None]:
    """Return the run that a request means: its path below the workspace, its folder, and its latest job.

    Raises:
        PageProblem: With status 404, if there is neither a run nor a job that will write it.
    """
    folder = studio.path(path)
    below = folder.relative_to(studio.root).as_posix()
    job = job_of(studio.queue.jobs(), below)
    if job is None and not is_run(folder):
        raise PageProblem(404, "run.none", path=path)
    return below, folder, job


def _open(request: Request, path: str, *, seconds: float = READ_SECONDS) -> tuple[OneRun, tuple[str, int, bool]]:
    studio = studio_of(request)
    below, folder, job = found_run(studio, path)
    log = log_end(studio.queue.folder(job.number).log) if job else ("", 0, False)
    run = open_run(below, folder, job, log=log[0], seconds=seconds)
    return run, log if run.status.job else ("", 0, False)


@router.get("/runs/run")
def show(request: Request, run: str) -> Response:
    """Show a run."""
    found, log = _open(request, run)
    return page(request, "run.html.jinja", run_view(found, job_log=log))


@router.get("/runs/run/status")
def status(request: Request, run: str) -> Response:
    """Return the upper part of the page alone, which changes with each step."""
    return page(request, "run_status.html.jinja", status_view(_open(request, run)[0]))


@router.get("/runs/run/samples")
def samples(request: Request, run: str) -> Response:
    """Return the answers alone."""
    below, folder, _ = found_run(studio_of(request), run)
    return page(
        request, "run_samples.html.jinja", {"samples": read_samples(RunPaths(folder).samples), "run": {"path": below}}
    )


@router.get("/runs/run/curve")
def curve(request: Request, run: str, chart: str, start: float = -math.inf, end: float = math.inf) -> Response:
    """Return a chart of a run."""
    if chart not in CHARTS and chart != "tasks":
        raise PageProblem(422, "problems.not_understood")
    _, folder, _ = found_run(studio_of(request), run)
    curves, language = curves_of(RunPaths(folder).metrics), language_of(request)
    curves.read(READ_SECONDS)
    return JSONResponse(chart_view(curves, chart, lambda key: worded(language, f"run.{key}"), start=start, end=end))


@router.get("/runs/run/events")
async def events(request: Request, run: str, start: str = "") -> Response:
    """Stream what happens in a run; see `run_events`."""
    studio = studio_of(request)
    below, folder, _ = await asyncio.to_thread(found_run, studio, run)
    sent = request.headers.get("last-event-id", "") or start
    changes = run_events(
        folder,
        lambda: job_of(studio.queue.jobs(), below),
        lambda number: studio.queue.folder(number).log,
        start=sent,
    )
    return stream(request, changes)


@router.post("/runs/run/stop")
def stop(request: Request, run: Path_, level: Annotated[int, Form(ge=1, le=3)]) -> Response:
    """Ask a run to stop: 1 saves first, 2 stops at once, 3 kills. One that waits is taken out of the queue."""
    studio = studio_of(request)
    below, folder, job = found_run(studio, run)
    if job is not None and job.state == "queued" and studio.queue.cancel(job.number):
        return back_to(address_of(below))
    if job is not None and job.state in ("queued", "running"):  # queued: it was started a moment ago
        for each in range(job.stops + 1, level + 1):
            if each > job.stops + 1:
                time.sleep(BETWEEN_SECONDS)  # `train` takes the first signal before the second
            studio.queue.stop(job.number, level=each)
    elif folder.exists():
        signal_holder(folder, level)
    return back_to(address_of(below))


@router.post("/runs/run/resume")
def resume(request: Request, run: Path_) -> Response:
    """Put the command that continues a run into the queue."""
    studio = studio_of(request)
    found, _ = _open(request, run)
    check_resumable(found)
    # Its own path: the recipe has the one of the folder that it was started in, which may be another.
    argv = ["train", f"./{found.path}/recipe.yaml", f"--output={found.path}", "--resume"]
    title = worded(language_of(request), "run.job_title", run=found.path)
    studio.queue.add(argv, title=title, run=found.path, lane="device")
    return back_to(address_of(found.path))


def check_resumable(run: OneRun) -> None:
    """Check that a page may continue a run.

    Raises:
        PageProblem: With status 409 if there is nothing to continue, 422 if only Python can, and 403 if its recipe runs
            code of a model.
    """
    state = run.status.state
    if state in ("queued", "running", "finished") or not RunPaths(run.folder).recipe.exists():
        raise PageProblem(409, "run.not_resumable", path=run.path)
    if is_from_python(run.folder):
        raise PageProblem(422, "run.from_python", path=run.path)
    if run.settings.get("model.trust_remote_code"):
        raise PageProblem(403, "run.remote_code", path=run.path)


@router.post("/runs/run/notes")
def notes(
    request: Request, run: Path_, tags: Annotated[str, Form()] = "", note: Annotated[str, Form()] = ""
) -> Response:
    """Write tags and a note into the run folder."""
    below, folder, _ = found_run(studio_of(request), run)
    if not is_run(folder):
        raise PageProblem(409, "run.no_folder", path=below)
    write_notes(folder, Notes(tags_of(tags), note.replace("\r\n", "\n")))
    return back_to(address_of(below))
