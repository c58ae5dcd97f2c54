"""The first page: what runs, what waits, the latest runs and data files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from instil.studio.catalogue import worded
from instil.studio.events import stream, watched
from instil.studio.jobs.records import Job
from instil.studio.lttb import Point, lttb
from instil.studio.rendering import language_of, page
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import Contents, contents
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths

LATEST = 8
"""Entries of each list."""
MOST_POINTS = 1_000
"""Points of a line; more than a screen has columns for."""
SMOOTHING = 0.9
"""Weight of the smoothed value before in the one after it."""
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


def curve_view(
    metrics: Sequence[Mapping[str, Any]], names: Mapping[str, str], *, start: float = -math.inf, end: float = math.inf
) -> dict[str, Any]:
    """Return the losses of a run as `chart.js` draws them.

    Args:
        metrics: The run's metrics.
        names: Names of the lines ``raw``, ``smooth`` and ``heldout``, and of both axes, ``step`` and ``loss``.
        start: First step to draw.
        end: Last step to draw.
    """
    raw = _points(metrics, "loss")
    lines = {"raw": raw, "smooth": smoothed(raw), "heldout": _points(metrics, "heldout_loss")}
    kinds = {"raw": "faint", "smooth": "line", "heldout": "points"}
    return {
        "x": names["step"],
        "y": names["loss"],
        "series": [
            {
                "name": names[name],
                "kind": kinds[name],
                "points": lttb([point for point in points if start <= point[0] <= end], MOST_POINTS),
            }
            for name, points in lines.items()
            if points
        ],
    }


def smoothed(points: Sequence[Point], weight: float = SMOOTHING) -> list[Point]:
    """Return the exponential mean of a curve, without the pull of its beginning towards 0.

    Example:
        >>> smoothed([(1, 2.0), (2, 2.0)])
        [(1, 2.0), (2, 2.0)]
    """
    mean, share, smooth = 0.0, 0.0, []
    for x, y in points:
        mean, share = weight * mean + (1 - weight) * y, weight * share + (1 - weight)
        smooth.append((x, round(mean / share, 6)))
    return smooth


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """Return the finite values of a metric over the steps."""
    values = [(line["step"], line[key]) for line in metrics if line.get(key) is not None]
    return [(step, value) for step, value in values if math.isfinite(value)]


def jobs_signature(studio: Studio) -> object:
    """Return a value that changes with the queue."""
    return [(job.number, job.state, job.stops) for job in studio.queue.jobs()]


def contents_signature(studio: Studio) -> Callable[[], object]:
    """Return a function whose value changes with the workspace; it looks every `FOLDER_SECONDS`."""
    kept: list[tuple[float, object]] = []

    def signature() -> object:
        if not kept or time.monotonic() - kept[-1][0] > FOLDER_SECONDS:
            kept[:] = [(time.monotonic(), contents(studio.root))]
        return kept[-1][1]

    return signature


@router.get("/")
def home(request: Request) -> Response:
    """Show the first page."""
    studio = studio_of(request)
    return page(request, "home.html.jinja", home_view(contents(studio.root), studio.queue.jobs()))


@router.get("/curve")
def curve(request: Request, run: str, start: float = -math.inf, end: float = math.inf) -> Response:
    """Return the losses of a run."""
    language = language_of(request)
    names = {name: worded(language, f"home.curve_{name}") for name in ("raw", "smooth", "heldout", "step", "loss")}
    metrics = read_metrics(RunPaths(studio_of(request).existing(run)).metrics)
    return JSONResponse(curve_view(metrics, names, start=start, end=end))


@router.get("/events")
async def events(request: Request) -> Response:
    """Stream ``jobs`` and ``workspace`` when they change."""
    studio = studio_of(request)
    changes = watched({"jobs": lambda: jobs_signature(studio), "workspace": contents_signature(studio)})
    return stream(request, changes)
