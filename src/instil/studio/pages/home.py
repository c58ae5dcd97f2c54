"""The first page: what runs, what waits, the latest runs and data files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from instil.studio.events import stream, watched
from instil.studio.jobs.records import Job, signature
from instil.studio.rendering import page
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import Contents, contents

LATEST = 8
"""Entries of each list."""
FOLDER_SECONDS = 3.0
"""How often a stream looks for new runs and files: a walk over the workspace."""
router = APIRouter()


def home_view(found: Contents, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what the first page shows."""
    shown = next((run for run in found.runs if run.state == "running"), next(iter(found.runs), None))
    return {
        "running": [job for job in jobs if job.state == "running"],
        "queued": [job for job in reversed(jobs) if job.state == "queued"],
        "runs": found.runs[:LATEST],
        "data": found.data[:LATEST],
        "shown": shown,
        "counts": {name: len(getattr(found, name)) for name in ("runs", "data", "recipes", "stores")},
        "is_whole": found.is_whole,
    }


def contents_signature(studio: Studio) -> Callable[[], object]:
    """Return a function whose value changes with the workspace; it looks every `FOLDER_SECONDS`."""
    kept: list[tuple[float, object]] = []

    def looked() -> object:
        if not kept or time.monotonic() - kept[-1][0] > FOLDER_SECONDS:
            kept[:] = [(time.monotonic(), contents(studio.root))]
        return kept[-1][1]

    return looked


@router.get("/")
def home(request: Request) -> Response:
    """Show the first page."""
    studio = studio_of(request)
    return page(request, "home.html.jinja", home_view(contents(studio.root), studio.queue.jobs()))


@router.get("/events")
async def events(request: Request) -> Response:
    """Stream ``jobs`` and ``workspace`` when they change."""
    studio = studio_of(request)
    changes = watched({"jobs": lambda: signature(studio.queue.jobs()), "workspace": contents_signature(studio)})
    return stream(request, changes)
