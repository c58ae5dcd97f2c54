"""Evaluate and ship: start an evaluation and read it; export a run, read the check of parity, and take it along."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from instil.studio.access import POLICY
from instil.studio.chat.models import BASE, base_model, read_model, talking_runs
from instil.studio.events import EVERY_SECONDS, event, stream
from instil.studio.jobs.log import log_end, read_from
from instil.studio.jobs.records import Job, is_own_server, signature
from instil.studio.pages.jobs import job_view, now
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, page
from instil.studio.ship.archive import archive, length_of, members_of
from instil.studio.ship.evaluations import REPORT, evaluations_of
from instil.studio.ship.exports import (
    FORMS,
    available_forms,
    available_types,
    export_folders,
    files_of,
    is_export,
    read_export,
)
from instil.studio.ship.suggestions import Suggestion, suggested
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import OutsideError, contents, free_path, inside

TASKS = (
    "exact_match", "numeric", "choice", "classification", "json", "translation", "summary", "code", "constraints",
    "behaviour", "multi_turn", "system_prompt", "preference",
)  # fmt: skip
"""As `instil evaluate --task` takes them; a test holds both equal."""
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
"""Policy of a page that an evaluation wrote.

Why safe: in a sandbox the page has an origin of its own. It sees no cookie, reaches no route of the studio, loads nothing,
and sends no form, whatever the answers in it contain.
"""
FIELDS = {
    **dict.fromkeys(("data", "limit", "judge", "judge_model", "out", "licence"), ""),
    "against": "base",
    "form": "merged",
    "dtype": "bf16",
    "device": "auto",
    "every_checkpoint": "",
}
"""What the fields hold at first."""
MOST_JOBS = 6
router = APIRouter()
Text = Annotated[str, Form()]


def ship_view(
    runs: Sequence[str], chosen: str, data: Sequence[str], jobs: Sequence[Job], forms: dict[str, str]
) -> dict[str, Any]:
    """Return what the page shows, but for what lies in the folders.

    Args:
        runs: The runs that have a model.
        chosen: The run that the address names.
        data: Paths of the data files.
        jobs: All jobs.
        forms: What the fields hold.
    """
    run = chosen if chosen in runs else next(iter(runs), "")
    own = [job for job in jobs if job.argv[0] in ("evaluate", "export")]
    return {
        "runs": runs,
        "run": run,
        "data": data,
        "jobs": [job_view(job, now=now()) for job in own[:MOST_JOBS]],
        "followed": followed(jobs),
        "tasks": TASKS,
        "fields": FIELDS | forms,
    }


def followed(jobs: Sequence[Job]) -> Job | None:
    """Return the job whose log the page shows: the one that runs, else the last that ran."""
    own = [job for job in jobs if job.argv[0] in ("evaluate", "export") and job.state != "queued"]
    return next((job for job in own if job.state == "running"), next(iter(own), None))


def _context(studio: Studio, chosen: str, fields: dict[str, str]) -> dict[str, Any]:
    found, jobs = contents(studio.root), studio.queue.jobs()
    runs = talking_runs(studio, [run.path for run in found.runs])
    view = ship_view(runs, chosen, [entry.path for entry in found.data], jobs, fields)
    run, job = view["run"], view["followed"]
    log, offset, _ = ("", 0, False) if job is None else log_end(studio.queue.folder(job.number).log, 4096)
    exports = [read_export(studio.root, folder) for folder in export_folders(studio.root, jobs)]
    return view | {
        "evaluations": evaluations_of(studio.root, studio.root / run) if run else [],
        "exports": [entry for entry in exports if entry is not None],
        "forms": available_forms(),
        "types": available_types(),
        "default_out": free_path(studio.root, f"exports/{PurePosixPath(run).name or 'run'}"),
        "log": log,
        "start": f"{0 if job is None else job.number}.{offset}",
        "problem": None,
        "problem_form": "",
        "suggestion": None,
    }


@router.get("/ship")
def ship(request: Request, run: str = "") -> Response:
    """Show the page of a run."""
    return page(request, "ship.html.jinja", _context(studio_of(request), run, {}))


@router.get("/ship/events")
async def events(request: Request, start: str = "") -> Response:
    """Stream ``jobs`` when one changes its state, and ``log``: what the job at work has printed."""
    place = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,15})", request.headers.get("last-event-id", "") or start)
    number, offset = (int(place[1]), int(place[2])) if place else (0, 0)
    return stream(request, _news(studio_of(request), number, offset))


async def _news(studio: Studio, number: int, offset: int) -> AsyncIterator[str]:
    before: object = None
    while True:
        jobs = await asyncio.to_thread(studio.queue.jobs)
        now_is = signature(jobs)
        news = event("jobs", None) if before not in (None, now_is) else ""
        before, job = now_is, followed(jobs)
        if job is not None:
            offset = offset if job.number == number else 0
            number = job.number
            data = await asyncio.to_thread(read_from, studio.queue.folder(number).log, offset)
            if data:
                offset += len(data)
                news += event("log", data.decode("utf-8", "replace"), identity=f"{number}.{offset}")
        yield news
        await asyncio.sleep(EVERY_SECONDS)


@router.get("/ship/tasks")
def tasks(request: Request, data: str) -> Response:
    """Show the tasks, with those marked that fit a file."""
    studio = studio_of(request)
    path = studio.existing(data).relative_to(studio.root).as_posix()
    suggestion: Suggestion = suggested(studio, path)
    context = _context(studio, "", {"data": data}) | {"suggestion": suggestion}
    return page(request, "ship.html.jinja", context)


@router.post("/ship/evaluate")
async def evaluate(request: Request) -> Response:
    """Start an evaluation."""
    studio = studio_of(request)
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    names = [name for name in form.getlist("task") if isinstance(name, str)]
    try:
        argv, run = evaluate_argv(studio, fields, names)
    except PageProblem as problem:
        return _again(request, studio, fields, problem, "evaluate")
    studio.queue.add(argv, title=f"evaluate {run}", lane="device")
    return back_to(f"/ship?run={run}")


def evaluate_argv(studio: Studio, fields: dict[str, str], tasks: Sequence[str]) -> tuple[list[str], str]:
    """Return the command of an evaluation, and its run.

    Raises:
        PageProblem: If a field is not allowed.
    """
    model = read_model(studio, _run(fields))
    data = _below(studio, fields.get("data", ""))
    argv = ["evaluate", f"--model=./{model.run}", f"--data=./{data}"]
    if unknown := [name for name in tasks if name not in TASKS]:
        raise PageProblem(422, "ship.no_task", name=unknown[0][:40])
    argv += [f"--task={name}" for name in tasks]
    against = fields.get("against", "")
    if against == "base":
        argv.append(f"--against={base_model(studio, model.run)}")
    elif against:
        argv.append(f"--against=./{read_model(studio, against).run}")
    if limit := fields.get("limit", "").strip():
        if not re.fullmatch(r"[1-9][0-9]{0,6}", limit):
            raise PageProblem(422, "ship.no_limit", found=limit[:40])
        argv.append(f"--limit={limit}")
    if judge := fields.get("judge", "").strip():
        if not against:
            raise PageProblem(422, "ship.judge_needs_two")
        if not is_own_server(judge):
            raise PageProblem(422, "ship.no_judge", found=judge[:80])
        argv.append(f"--judge={judge}")
        if name := fields.get("judge_model", "").strip():
            argv.append(f"--judge-model={name}")
    return argv, model.run


@router.post("/ship/export")
async def export(request: Request) -> Response:
    """Start an export."""
    studio = studio_of(request)
    fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    try:
        argv, run = export_argv(studio, fields)
    except PageProblem as problem:
        return _again(request, studio, fields, problem, "export")
    studio.queue.add(argv, title=f"export {run}", lane="device")
    return back_to(f"/ship?run={run}")


def export_argv(studio: Studio, fields: dict[str, str]) -> tuple[list[str], str]:
    """Return the command of an export, and its run.

    Raises:
        PageProblem: If a field is not allowed.
    """
    model = read_model(studio, _run(fields))
    form, kind = fields.get("form", ""), fields.get("dtype", "")
    if form not in FORMS:
        raise PageProblem(422, "ship.no_form", found=form[:40])
    types = available_types()
    if not types.get(kind) or (kind not in ("fp32", "bf16", "fp16") and form not in ("gguf", "ollama")):
        raise PageProblem(422, "ship.no_type", found=kind[:40], form=form)
    out = fields.get("out", "").strip().strip("/")
    target = studio.path(out or ".")
    if not out or target == studio.root:
        raise PageProblem(422, "ship.no_out")
    if target.exists():
        raise PageProblem(422, "ship.out_exists", path=out)
    out = target.relative_to(studio.root).as_posix()
    argv = ["export", f"--model=./{model.run}", f"--out=./{out}", f"--as={form}", f"--dtype={kind}"]
    if fields.get("data"):
        argv.append(f"--data=./{_below(studio, fields['data'])}")
    if (device := fields.get("device", "").strip() or "auto") != "auto":
        if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,3})?", device):
            raise PageProblem(422, "ship.no_device", found=device[:40])
        argv.append(f"--device={device}")
    if fields.get("every_checkpoint"):
        argv.append("--every-checkpoint")
    if licence := fields.get("licence", "").strip():
        if not re.fullmatch(r"[A-Za-z0-9.+-]{1,64}", licence):
            raise PageProblem(422, "ship.no_licence", found=licence[:64])
        argv.append(f"--licence={licence}")
    return argv, model.run


def _run(fields: dict[str, str]) -> str:
    """Return the run that a form names; a base cannot be measured or exported from here."""
    name = fields.get("run", "")
    if not name or name.startswith(BASE):
        raise PageProblem(422, "ship.no_run")
    return name


def _below(studio: Studio, path: str) -> str:
    if not path:
        raise PageProblem(422, "ship.no_data")
    return studio.whole(path).relative_to(studio.root).as_posix()


def _again(request: Request, studio: Studio, fields: dict[str, str], problem: PageProblem, form: str) -> Response:
    """Show the page with what was typed, and what is wrong beside its form."""
    context = _context(studio, fields.get("run", ""), fields) | {"problem": problem, "problem_form": form}
    return page(request, "ship.html.jinja", context, status=problem.status)


@router.get("/ship/report")
def report(request: Request, folder: str, download: bool = False) -> Response:
    """Return the page that an evaluation wrote, in a sandbox or to keep."""
    studio = studio_of(request)
    path = studio.existing(f"{folder}/{REPORT}")
    if download:
        return FileResponse(path, media_type="text/html", filename=f"{PurePosixPath(folder).parent.name}-{REPORT}")
    return FileResponse(path, media_type="text/html; charset=utf-8", headers={POLICY: SANDBOX})


@router.get("/ship/download")
def download(request: Request, folder: str) -> Response:
    """Return an export as a tar archive, made while it is sent."""
    studio = studio_of(request)
    path = studio.existing(folder)
    if not is_export(path):
        raise PageProblem(404, "ship.no_export", path=folder)
    members = members_of(path, files_of(path))
    headers = {"Content-Length": str(length_of(members)), "Content-Disposition": _attachment(f"{path.name}.tar")}
    return StreamingResponse(archive(members), media_type="application/x-tar", headers=headers)


@router.get("/ship/file")
def file(request: Request, folder: str, name: str) -> Response:
    """Return one file of an export."""
    studio = studio_of(request)
    path = studio.existing(folder)
    if not is_export(path):
        raise PageProblem(404, "ship.no_export", path=folder)
    try:
        found = inside(path, name)
    except OutsideError:
        raise PageProblem(404, "problems.no_file", path=name) from None
    if not found.is_file():
        raise PageProblem(404, "problems.no_file", path=name)
    return FileResponse(found, media_type="application/octet-stream", filename=found.name)


def _attachment(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f'attachment; filename="{plain}"'
