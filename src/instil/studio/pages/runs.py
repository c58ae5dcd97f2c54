"""All runs: a table to sort, filter and search; a comparison of some of them; and how one is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import JSONResponse

from instil.errors import RunError
from instil.evaluation.meanings import label_of, meaning_of
from instil.reporting.run_names import short_names
from instil.reporting.runs import RunSummary, short_figure
from instil.studio.catalogue import worded
from instil.studio.lttb import Point
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, language_of, page
from instil.studio.runs.charts import compared_view
from instil.studio.runs.comparing import PAGE_ANSWERS, Beside, beside, samples_beside, wins_of
from instil.studio.runs.curves import curves_of
from instil.studio.runs.listing import LATER_SECONDS, READ_SECONDS, Listing, Row, shown_rows
from instil.studio.runs.removing import amount_of, check_removable, remove_run
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import contents, run_entry
from instil.training.records.run_figures import figure_words
from instil.training.records.run_folder import RunPaths, is_run
from instil.training.records.run_settings import differences, in_words, short_value

MOST_COMPARED = 8
"""Runs in one comparison; a chart has as many colours."""
MOST_TASKS = 3
"""Figures of tasks that the table has a column for."""
MOST_SETTINGS = 6
"""Settings that differ in a row of the table, the best known first; the comparison has all."""
SPARK_WIDE, SPARK_HIGH = 100.0, 20.0
SORTS = ("name", "date", "heldout", "won", "loss", "size")
STATES = ("running", "finished", "not finished", "damaged")
router = APIRouter()
Chosen = Annotated[list[str], Query()]


@cache
def listing_of(root: Path) -> Listing:
    """Return the rows of a workspace, as far as they were read before."""
    return Listing(root)


def runs_view(
    rows: Sequence[Row], *, q: str = "", state: str = "", tag: str = "", sort: str = "date"
) -> dict[str, Any]:
    """Return what the table shows.

    Args:
        rows: All runs of the workspace.
        q: Words that must occur.
        state: Only runs in this state.
        tag: Only runs with this tag.
        sort: What the rows are sorted by, as `shown_rows` takes it.
    """
    problem = ""
    try:
        shown = shown_rows(rows, query=q, state=state, tag=tag, sort=sort)
    except RunError as error:
        problem, shown = str(error), shown_rows(rows, query=q, state=state, tag=tag)
    tasks = _tasks(rows)
    lowest = _lowest([row.summary for row in shown])
    query = {"q": q, "state": state, "tag": tag, "sort": sort}
    return {
        "rows": [row_view(row, tasks, is_lowest=row.path in lowest) for row in shown],
        "tasks": [(name, short_figure(name), meaning_of(*name.split(".", 1)) if "." in name else "") for name in tasks],
        "with_won": any(row.summary.heldout_accuracy is not None for row in rows),
        "tags": sorted({tag for row in rows for tag in row.notes.tags}),
        "states": STATES,
        "query": query,
        "table_address": address_of(query),
        "sorts": {name: address_of(query | {"sort": _turned(sort, name)}) for name in (*SORTS, *tasks)},
        "order": {sort.removeprefix("-"): _direction(sort)},
        "num_runs": len(rows),
        "unread": sum(not row.is_read for row in rows),
        "problem": problem,
        "most": MOST_COMPARED,
    }


def row_view(row: Row, tasks: Sequence[str], *, is_lowest: bool) -> dict[str, Any]:
    """Return what the table shows of a run."""
    return {
        "path": row.path,
        "run": row.summary,
        "notes": row.notes,
        "is_read": row.is_read,
        "is_lowest": is_lowest,
        "spark": spark_points(row.spark),
        "figures": [figure_words(row.summary.figures.get(name)) for name in tasks],
        "settings": in_words(dict(list(row.summary.settings.items())[:MOST_SETTINGS])),
        "more_settings": max(0, len(row.summary.settings) - MOST_SETTINGS),
    }


def spark_points(points: Sequence[Point]) -> str:
    """Return a small curve as an SVG polyline has it; empty with fewer than two points.

    Example:
        >>> spark_points([(1, 2.0), (3, 1.0)])
        '0.0,0.0 100.0,20.0'
    """
    if len(points) < 2:
        return ""
    (x0, x1), ys = (points[0][0], points[-1][0]), [y for _, y in points]
    wide, high = (x1 - x0) or 1.0, (max(ys) - min(ys)) or 1.0
    return " ".join(f"{(x - x0) / wide * SPARK_WIDE:.1f},{(max(ys) - y) / high * SPARK_HIGH:.1f}" for x, y in points)


def _tasks(rows: Sequence[Row]) -> list[str]:
    """Return the figures that most runs have, those of behaviour last."""
    counts: dict[str, int] = {}
    for row in rows:
        for name in row.summary.figures:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (name.startswith("behaviour."), -counts[name]))[:MOST_TASKS]


def _lowest(runs: Sequence[RunSummary]) -> set[str]:
    """Return the runs with the lowest held-out loss, if more than one has any and all measure the same."""
    losses = {
        run.name: run.heldout_loss
        for run in runs
        if run.heldout_loss is not None and run.heldout_loss == run.heldout_loss
    }
    if len(losses) < 2 or len({run.objective for run in runs if run.name in losses}) > 1:
        return set()
    return {name for name, loss in losses.items() if loss == min(losses.values())}


def _turned(sort: str, name: str) -> str:
    """Return how a click on a column sorts: by it, or the other way around if it is sorted by already."""
    return f"-{name}" if sort == name else name


def _direction(sort: str) -> str:
    """Return the order as a screen reader says it; dates, figures and sizes begin with the largest."""
    name, is_turned = sort.removeprefix("-"), sort.startswith("-")
    return "ascending" if (name in ("name", "heldout", "loss")) != is_turned else "descending"


def address_of(query: dict[str, str]) -> str:
    """Return the address of the table with filters and order, without what is empty."""
    words = urlencode({name: value for name, value in query.items() if value and (name, value) != ("sort", "date")})
    return f"/runs?{words}" if words else "/runs"


@router.get("/runs")
def runs(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    state: str = "",
    tag: str = "",
    sort: Annotated[str, Query(max_length=200)] = "date",
) -> Response:
    """Show the table."""
    root = studio_of(request).root
    found = contents(root)
    # The first answer comes at once; what a script of the page asks for afterwards may read more.
    is_first = request.headers.get("sec-fetch-dest") != "empty"
    seconds = READ_SECONDS if is_first else LATER_SECONDS
    view = runs_view(listing_of(root).rows(found.runs, seconds=seconds), q=q, state=state, tag=tag, sort=sort)
    return page(request, "runs.html.jinja", view | {"is_whole": found.is_whole})


def compare_view(rows: Sequence[Row], *, at: int = 0, only_different: bool = False) -> dict[str, Any]:
    """Return what a comparison shows.

    Args:
        rows: The runs, in the order of the columns; the first one is what the others are compared with.
        at: Number of the first prompt that is shown.
        only_different: Whether prompts are left out to which all gave the same answer.
    """
    folders = [row.summary.folder for row in rows]
    names = short_names(folders)
    problems = [row.summary.problem for row in rows if row.summary.problem]
    answers: list[Beside] = []
    settings: list[dict[str, Any]] = [{} for _ in rows]
    for read in ("answers", "settings"):
        try:
            if read == "answers":
                answers = beside(folders)
            else:
                settings = differences(folders)
        except RunError as error:
            problems.append(str(error))
    differing = list(dict.fromkeys(name for own in settings for name in own))
    figures = list(dict.fromkeys(name for row in rows for name in row.summary.figures))
    shown = [row for row in answers if row.differs] if only_different else answers
    runs = [row.summary for row in rows]
    return {
        "names": names,
        "paths": [row.path for row in rows],
        "runs": runs,
        "lowest": _lowest(runs),
        "with_won": any(run.heldout_accuracy is not None for run in runs),
        "problems": list(dict.fromkeys(problems)),
        "figures": [
            (label_of(name), [figure_words(run.figures.get(name), interval=True) for run in runs]) for name in figures
        ],
        "settings": [(name, [short_value(own.get(name), most=60) for own in settings]) for name in differing],
        "wins": wins_of(answers, len(rows)),
        "samples": samples_beside(folders),
        "answers": shown[at : at + PAGE_ANSWERS],
        "num_answers": len(shown),
        "num_all": len(answers),
        "at": at,
        "following": at + PAGE_ANSWERS if at + PAGE_ANSWERS < len(shown) else None,
        "before": max(0, at - PAGE_ANSWERS) if at else None,
        "only_different": only_different,
        "query": urlencode([("run", row.path) for row in rows]),
    }


def _chosen(studio: Studio, paths: Sequence[str]) -> list[Row]:
    """Return the rows of the runs of a request.

    Raises:
        PageProblem: With status 404 if one is no run, 422 if they are fewer than two or too many.
    """
    folders = {studio.existing(path): path for path in dict.fromkeys(paths)}
    for folder, path in folders.items():
        if not is_run(folder):
            raise PageProblem(404, "run.none", path=path)
    if not 2 <= len(folders) <= MOST_COMPARED:
        raise PageProblem(422, "runs.choose", found=len(folders), most=MOST_COMPARED)
    entries = [run_entry(studio.root, folder) for folder in folders]
    rows = Listing(studio.root).rows(entries, seconds=float("inf"))
    return [
        replace(row, summary=replace(row.summary, folder=folder)) for row, folder in zip(rows, folders, strict=True)
    ]


@router.get("/runs/compare")
def compare(request: Request, run: Chosen, at: Annotated[int, Query(ge=0)] = 0, different: bool = False) -> Response:
    """Show runs beside each other."""
    rows = _chosen(studio_of(request), run)
    return page(request, "run_compare.html.jinja", compare_view(rows, at=at, only_different=different))


@router.get("/runs/compare/curve")
def compared_curve(
    request: Request,
    run: Chosen,
    chart: Literal["loss", "heldout"],
    start: float | None = None,
    end: float | None = None,
) -> Response:
    """Return a chart with a line of each run."""
    studio, language = studio_of(request), language_of(request)
    folders = [studio.existing(path) for path in dict.fromkeys(run)][:MOST_COMPARED]
    curves = [curves_of(RunPaths(folder).metrics) for folder in folders]
    for one in curves:
        one.read(0.1)
    lines = list(zip(short_names(folders), curves, strict=True))
    view = compared_view(
        lines,
        chart,
        lambda key: worded(language, f"run.{key}"),
        start=float("-inf") if start is None else start,
        end=float("inf") if end is None else end,
    )
    return JSONResponse(view)


@router.get("/runs/delete")
def ask(request: Request, run: str) -> Response:
    """Show what deleting a run removes."""
    studio = studio_of(request)
    studio.existing(run)
    folder = check_removable(studio.root, run)
    _check_free(studio, folder)
    return page(request, "run_delete.html.jinja", {"path": run, "amount": amount_of(folder)})


@router.post("/runs/delete")
def delete(request: Request, run: Annotated[str, Form()], confirm: Annotated[str, Form()] = "") -> Response:
    """Delete a run whose name was confirmed."""
    studio = studio_of(request)
    studio.existing(run)
    _check_free(studio, check_removable(studio.root, run))
    if confirm != "yes":
        raise PageProblem(422, "runs.not_confirmed", path=run)
    remove_run(studio.root, run)
    return back_to("/runs")


def _check_free(studio: Studio, folder: Path) -> None:
    """Check that no job writes a run, or will.

    Raises:
        PageProblem: With status 409, if one does.
    """
    path = folder.relative_to(studio.root).as_posix()
    if any(job.run == path and job.state in ("queued", "running") for job in studio.queue.jobs()):
        raise PageProblem(409, "runs.has_job", path=path)
