"""The data: choose or drop a file, how it is read, what is wrong with it, and every token as the model will see it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from instil.conversation import ROLES as MESSAGE_ROLES
from instil.errors import DataError
from instil.inspection.findings import KINDS
from instil.studio.catalogue import Language, worded
from instil.studio.data import uploads
from instil.studio.data.choices import models_in, templates_in
from instil.studio.data.raw_rows import ROWS_A_PAGE, RawRow, raw_rows
from instil.studio.data.report_view import findings_at, findings_view, places_of, report_view
from instil.studio.data.results import Result, fixed_name, result_of, start
from instil.studio.data.scanning import scanned
from instil.studio.data.subject import PURPOSES, ROLES, Subject, subject_of
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, language_of, page
from instil.studio.studio import Studio, studio_of
from instil.studio.workers.process import WorkerError
from instil.studio.workspace import Contents, contents, is_hub_name
from instil.template.library import NAMED_TEMPLATES

MODULE = "instil.studio.workers.rows"
"""The helper process."""
TOKEN_WORDS = (
    "pair", "example", "no_example", "over_limit", "left_out", "counts", "shortened", "pair_left_out", "too_long", "common",
    "side_none", "side_counts", "limit", "rest", "id", "weight", "message", "field", "position", "answer", "trained",
    "not_counted", "read", "of_template", "of_variables", "of_message", "no_field", "why_answer", "why_ending",
    "why_rejected", "why_weight", "why_template", "why_read", "why_untrained", "why_variables", "why_left_out",
)  # fmt: skip
"""Words of the token view: those of `views/examples.js`."""
PAGE_WORDS = (
    "row", "raw", "remedy", "seen_rows", "found_rows", "stopped", "nothing_found", "reading", "sending",
    "too_large", "severity_error", "severity_warning", "severity_note", "nothing_here", "from_to",
)  # fmt: skip
"""Words that only the script writes."""
router = APIRouter()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are shown.

    Attributes:
        start: Number of the first one, from 1.
        finding: A kind of finding, ``any``, or empty.
        text: A text that they contain.
        role: A role that they have.
        shortest: Fewest tokens, or None.
        longest: Most tokens, or None.
    """

    start: int = 1
    finding: str = ""
    text: str = ""
    role: str = ""
    shortest: int | None = None
    longest: int | None = None

    @property
    def scans(self) -> bool:
        """Whether rows have to be looked through for it."""
        return bool(self.text or self.role or self.shortest is not None or self.longest is not None)

    @property
    def query(self) -> dict[str, Any]:
        """The parameters of an address."""
        values = {
            "finding": self.finding,
            "text": self.text,
            "role": self.role,
            "shortest": self.shortest,
            "longest": self.longest,
            "start": self.start if self.start > 1 else None,
        }
        return {name: value for name, value in values.items() if value not in (None, "")}


def filter_of(values: Mapping[str, str]) -> Filter:
    """Return the filter of an address; what is no number counts as not set."""
    finding, role = values.get("finding", ""), values.get("role", "")
    return Filter(
        max(1, _number(values.get("start", "")) or 1),
        finding if finding in KINDS or finding == "any" else "",
        values.get("text", "").strip(),
        role if role in MESSAGE_ROLES else "",
        _number(values.get("shortest", "")),
        _number(values.get("longest", "")),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 12 else None


def choose_view(found: Contents) -> dict[str, Any]:
    """Return what the page for choosing data shows."""
    return {"data": found.data, "most": uploads.MOST_BYTES, "folder": uploads.FOLDER}


def rows_view(
    subject: Subject, wanted: Filter, raw: Sequence[RawRow] | None, places: Sequence[str] | None, error: str
) -> dict[str, Any]:
    """Return what the list of rows shows before the helper process has answered.

    Args:
        subject: What is looked at.
        wanted: Which rows.
        raw: The rows as they are in the file; None where only a helper process can read them.
        places: Places of all rows with the finding; None without such a filter.
        error: Why no row can be shown.
    """
    first = wanted.start - 1
    rows: list[dict[str, Any]] = []
    has_next = False
    if wanted.scans or error:
        pass
    elif places is not None:
        rows = [
            {"key": f"f{number}", "at": None, "place": place, "text": ""}
            for number, place in enumerate(places[first : first + ROWS_A_PAGE])
        ]
        has_next = len(places) > first + ROWS_A_PAGE
    elif raw is None:
        rows = [{"key": str(at), "at": at, "place": "", "text": ""} for at in range(first, first + ROWS_A_PAGE)]
        has_next = True
    else:
        rows = [{"key": str(row.at), "at": row.at, "place": row.place, "text": row.text} for row in raw[:ROWS_A_PAGE]]
        has_next = len(raw) > ROWS_A_PAGE
    query = {**subject.query, **wanted.query}

    def address(start: int) -> str:
        return f"/data/view?{urlencode({**query, 'start': start})}"

    return {
        "rows": rows,
        "error": error,
        "scan": f"/data/scan?{urlencode(query)}" if wanted.scans and not error else "",
        "first": address(1) if wanted.start > 1 else "",
        "previous": address(max(1, wanted.start - ROWS_A_PAGE)) if wanted.start > 1 and not wanted.scans else "",
        "next": address(wanted.start + ROWS_A_PAGE) if has_next else "",
        "next_base": f"/data/view?{urlencode({**query, 'start': ''})}",
        "rows_query": urlencode(subject.query),
        "wanted": wanted,
        "total": None if places is None else len(places),
    }


def words_of(language: Language) -> dict[str, str]:
    """Return what the attributes of the page tell the script: its words, and the kinds of findings."""
    kinds = {
        name: {
            "title": worded(language, f"findings.title_{name}"),
            "remedy": worded(language, f"findings.remedy_{name}"),
            "severity": kind.severity,
            "reasoned": kind.reasoned,
        }
        for name, kind in KINDS.items()
    }
    return {
        "token_words": json.dumps(
            {key: worded(language, f"data.token_{key}") for key in TOKEN_WORDS}, ensure_ascii=False
        ),
        "page_words": json.dumps({key: worded(language, f"data.js_{key}") for key in PAGE_WORDS}, ensure_ascii=False),
        "kinds": json.dumps(kinds, ensure_ascii=False),
    }


def _subject(request: Request) -> tuple[Studio, Subject]:
    studio = studio_of(request)
    return studio, subject_of(request.query_params, studio)


def _ask(studio: Studio, subject: Subject, question: Mapping[str, Any]) -> Any:
    """Return the answer of the helper process of a model and a template."""
    key = subject.key(studio.root)
    # A model that was trained anew has other files, and gets another process.
    setup = {**subject.settings["model"], "state": subject.model_state(studio.root)}
    return studio.workers.ask(MODULE, setup, {**question, "key": key, "settings": subject.settings})


@router.get("/data")
def choose(request: Request) -> Response:
    """Show the data of the workspace, and where to drop a file."""
    view = choose_view(contents(studio_of(request).root)) | words_of(language_of(request))
    return page(request, "data.html.jinja", view)


@router.get("/data/open")
def open_data(request: Request, path: str = "") -> Response:
    """Go to the data that a path or a Hub id means; a wrong one is said beside the field."""
    studio = studio_of(request)
    path = path.strip()
    try:
        if path and (is_hub_name(studio.root, path) or studio.existing(path)):
            return back_to(f"/data/view?{urlencode({'path': path})}")
        problem: tuple[str, dict[str, object]] = ("data.no_path", {})
    except PageProblem:
        problem = ("data.no_data", {"path": path})
    view = choose_view(contents(studio.root)) | words_of(language_of(request)) | {"problem": problem, "typed": path}
    return page(request, "data.html.jinja", view, status=404)


@router.post("/data/upload")
async def upload(request: Request, name: str = "") -> Response:
    """Write a dropped file to the disk; the answer is the address that shows it, or a text that says what is wrong."""
    studio, language = studio_of(request), language_of(request)
    sent = request.headers.get("content-length", "")
    try:
        folder = studio.path(uploads.FOLDER)
        folder.mkdir(exist_ok=True)
        path = uploads.reserve(folder, name)
        await uploads.receive(
            request.stream(), path, most=uploads.MOST_BYTES, announced=int(sent) if sent.isdecimal() else None
        )
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it: the page was closed, or stop was pressed
    except PageProblem as problem:
        text = worded(language, problem.key, **problem.values)
        return JSONResponse({"problem": text}, status_code=problem.status, headers={"Connection": "close"})
    below = path.relative_to(studio.root).as_posix()
    return JSONResponse({"path": below, "address": f"/data/view?{urlencode({'path': below})}"})


@router.get("/data/view")
def view(request: Request) -> Response:
    """Show the rows as they are in the file; the script then fetches them as tokens."""
    studio, subject = _subject(request)
    wanted = filter_of(request.query_params)
    raw, places, error = None, None, ""
    inspection = result_of(studio, subject, "inspection")
    report = inspection.value
    if wanted.finding:
        places = [] if report is None else places_of(report, wanted.finding)
    elif not wanted.scans:
        try:
            raw = raw_rows(studio.root, subject, start=wanted.start - 1, count=ROWS_A_PAGE + 1)
        except DataError as problem:
            error = str(problem)
    path = studio.root / subject.data
    context = {
        "subject": subject,
        "size": path.stat().st_size if path.is_file() and not subject.is_hub else None,
        "models": models_in(studio.root),
        "templates": [*NAMED_TEMPLATES, *templates_in(studio.root)],
        "purposes": PURPOSES,
        "roles": ROLES,
        "filtered_roles": MESSAGE_ROLES,
        "found": [] if report is None else findings_view(report),
        "query": urlencode(subject.query),
        **rows_view(subject, wanted, raw, places, error),
        **words_of(language_of(request)),
        **report_context(subject, inspection, result_of(studio, subject, "fix")),
    }
    return page(request, "data_view.html.jinja", context)


@router.get("/data/summary")
def summary(request: Request) -> Response:
    """Show the format with the other readings, the columns, and the template with its proof."""
    studio, subject = _subject(request)
    context: dict[str, Any] = {"subject": subject, "roles": ROLES, "format": None, "template": None}
    for name, question in (("format", {"ask": "format"}), ("template", {"ask": "template"})):
        try:
            context[name] = _ask(studio, subject, question)
        except WorkerError as error:
            context[f"{name}_error"] = str(error)
    context["readings"] = [
        {**one, "address": _reading_address(subject, one), "is_here": _is_reading(subject, one, context["format"])}
        for one in (context["format"] or {}).get("readings", ())
    ]
    query = {name: value for name, value in subject.query.items() if name not in ROLES and name != "format"}
    context["auto_address"] = f"/data/view?{urlencode(query)}"
    context["recipe_address"] = f"/recipe?{urlencode(subject.recipe_query)}"
    return page(request, "data_summary.html.jinja", context)


def _reading_address(subject: Subject, reading: Mapping[str, Any]) -> str:
    """Return the address that shows the rows in another reading; columns chosen for roles are not part of it."""
    query = {name: value for name, value in subject.query.items() if name not in ROLES}
    return f"/data/view?{urlencode({**query, 'format': reading['format'], 'objective': reading['objective']})}"


def _is_reading(subject: Subject, reading: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether the rows are shown in a reading: the chosen one, else the format that was found."""
    used = (subject.format if subject.format != "auto" else found["format"], subject.objective)
    return (reading["format"], reading["objective"]) in (
        used,
        (subject.format, subject.objective),
    ) and not subject.columns


@router.get("/data/rows")
def rows(
    request: Request,
    at: Annotated[list[int], Query()] = [],  # noqa: B006
    place: Annotated[list[str], Query()] = [],  # noqa: B006
) -> Response:
    """Return rows with their tokens, as JSON: by position, or by place."""
    studio, subject = _subject(request)
    asked: dict[str, Any] = {"places": place[:ROWS_A_PAGE]} if place else {"at": at[:ROWS_A_PAGE]}
    try:
        answer = _ask(studio, subject, {"ask": "rows", **asked})
    except WorkerError as error:
        return JSONResponse({"error": str(error)})
    report = result_of(studio, subject, "inspection").value
    if report is not None:
        _add_findings(answer, report)
    return JSONResponse(answer)


def _add_findings(answer: dict[str, Any], report: Mapping[str, Any]) -> None:
    """Add what only the inspection of all rows finds, such as duplicates."""
    by_place = findings_at(report, [row["place"] for row in answer["rows"]])
    numbers = {name: number for number, name in enumerate(answer["kinds"])}
    for row in answer["rows"]:
        here = {number for number, _ in row["findings"]}
        found = [(numbers[kind], seen) for kind, seen in by_place.get(row["place"], ()) if kind in numbers]
        row["findings"] += [[number, seen] for number, seen in found if number not in here]


@router.get("/data/scan")
async def scan(request: Request) -> Response:
    """Stream the rows that a filter keeps, a JSON line each, until a page is full; closing the connection ends it."""
    studio, subject = studio_of(request), subject_of(request.query_params, studio_of(request))
    wanted = filter_of(request.query_params)
    question: dict[str, Any] = {
        "settings": subject.settings,
        "filter": {"text": wanted.text, "role": wanted.role, "shortest": wanted.shortest, "longest": wanted.longest},
        "start": wanted.start - 1,
        "most": ROWS_A_PAGE,
    }
    if wanted.finding:
        report = result_of(studio, subject, "inspection").value
        question["places"] = [] if report is None else places_of(report, wanted.finding)
    return StreamingResponse(_lines(request, studio, question), media_type="application/x-ndjson")


async def _lines(request: Request, studio: Studio, question: Mapping[str, Any]) -> AsyncIterator[bytes]:
    async for line in scanned(studio.root, question):
        if request.app.state.ending.begun:
            return
        yield line


@router.get("/data/report")
def report(request: Request) -> Response:
    """Show the inspection of the whole file, where it is, or how to start it; and the same of a fixed copy."""
    studio, subject = _subject(request)
    inspection, fix = (result_of(studio, subject, what) for what in ("inspection", "fix"))
    return page(request, "data_report.html.jinja", report_context(subject, inspection, fix))


def report_context(subject: Subject, inspection: Result, fix: Result) -> dict[str, Any]:
    """Return what the inspection of the whole file shows."""
    shown = None if inspection.value is None else report_view(inspection.value)
    query = urlencode(subject.query)
    return {
        "subject": subject,
        "inspection": inspection,
        "fix": fix,
        "report": shown,
        "query": query,
        "repaired": sum(one["count"] for one in (shown or {}).get("findings", ()) if one["repaired"]),
        "fixed_address": f"/data/view?{urlencode({**subject.query, 'path': fix.target})}" if fix.target else "",
    }


@router.post("/data/inspect")
def inspect(request: Request) -> Response:
    """Start the inspection of the whole file."""
    studio, subject = _subject(request)
    start(studio, subject, "inspection", title=_title(request, "data.job_inspect", subject))
    return back_to(f"/data/view?{urlencode(subject.query)}")


@router.get("/data/fixes")
def fixes(request: Request) -> Response:
    """Show the first rows that fixing changes, as a diff."""
    studio, subject = _subject(request)
    context: dict[str, Any] = {"subject": subject, "query": urlencode(subject.query), "fixes": None}
    try:
        context["fixes"] = _ask(studio, subject, {"ask": "fixes"})
        context["target"] = fixed_name(studio, subject)
    except WorkerError as error:
        context["error"] = str(error)
    return page(request, "data_fixes.html.jinja", context)


@router.post("/data/fix")
def fix(request: Request, target: Annotated[str, Form()] = "") -> Response:
    """Write a fixed copy beside the data; the data stay as they are."""
    studio, subject = _subject(request)
    below = studio.path(target).relative_to(studio.root).as_posix() if target else fixed_name(studio, subject)
    start(studio, subject, "fix", title=_title(request, "data.job_fix", subject), target=below)
    return back_to(f"/data/view?{urlencode(subject.query)}")


def _title(request: Request, key: str, subject: Subject) -> str:
    return worded(language_of(request), key, path=subject.data)
