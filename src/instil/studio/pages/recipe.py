"""The recipe: a form made from the schema, its YAML, its command line, its plan; saved as a file, started as a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from instil.errors import InstilError, RecipeError
from instil.files import write_text_atomic
from instil.recipe.shipped import shipped_names, summary_of
from instil.studio.drafts.checks import Checked, Problem, check
from instil.studio.drafts.command_line import command_of
from instil.studio.drafts.fields import REFUSED, fields, source_fields
from instil.studio.drafts.form import LISTS, changes_in, groups_of, source_rows, sweep_options, sweep_rows
from instil.studio.drafts.plan_view import plan_view
from instil.studio.drafts.planning import cancel_plan, make_plan
from instil.studio.drafts.starts import (
    free_name,
    name_from,
    shipped_text,
    text_of_data,
    text_of_file,
    text_of_meaning,
    text_of_run,
)
from instil.studio.drafts.store import NAME, Draft, Drafts, digest_of
from instil.studio.drafts.text import edited, settings_in
from instil.studio.jobs.records import check_argv
from instil.studio.pages.run import address_of
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, page
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import OWN, Contents, contents

LONGEST = 200_000
"""Characters of a recipe's text that the page takes."""
TEMPLATE = "recipe.html.jinja"
REFUSALS = frozenset({*REFUSED.values(), "recipe.outside"})
"""Keys of the problems of a recipe that reaches further than a page may."""
VERBS = ("train", "plan", "prepare")
"""Commands whose options are all settings of a recipe."""
router = APIRouter()


@dataclass(frozen=True, slots=True)
class Notes:
    """What an action of the page has to say beside its cause.

    Attributes:
        problems: Problems beside ``name``, ``file``, ``command`` or a setting.
        command: The command line as it was typed, where it could not be read.
        is_rewritten: Whether comments could not be kept.
    """

    problems: tuple[Problem, ...] = ()
    command: str | None = None
    is_rewritten: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A draft that was read.

    Attributes:
        draft: The draft.
        settings: The settings of its text, or of the last one that could be read.
        checked: What is wrong with them.
        unreadable: Why its text cannot be read; or empty.
    """

    draft: Draft
    settings: dict[str, Any]
    checked: Checked
    unreadable: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be planned and started."""
        return not self.unreadable and self.checked.recipe is not None


def read_draft(draft: Draft, root: Path) -> Read:
    """Return a draft with what is wrong with it."""
    unreadable = ""
    try:
        settings = settings_in(draft.text)
    except RecipeError as error:
        unreadable, settings = str(error), settings_in(draft.good)
    return Read(draft, settings, check(settings, root=root, name=draft.name), unreadable)


def recipe_view(read: Read, *, found: Contents, drafts: list[Draft], notes: Notes) -> dict[str, Any]:
    """Return what the page shows."""
    draft = read.draft
    command, left = command_of(read.settings)
    is_planned = read.is_ready and draft.digest in (draft.planned, draft.failed)
    return {
        "draft": draft,
        "good": draft.text if not read.unreadable else draft.good,
        "groups": groups_of(read.settings, read.checked),
        "source_rows": {name: source_rows(read.settings, name) for name in LISTS},
        "is_saved": draft.saved == digest_of(draft.text),
        "source_fields": source_fields(),
        "sweep_rows": sweep_rows(read.settings),
        "sweep_options": sweep_options(read.settings),
        "sweepable": [name for name, field in fields().items() if field.can_be_swept],
        "problems": read.checked,
        "notes": notes,
        "unreadable": read.unreadable,
        "is_ready": read.is_ready,
        "num_runs": read.checked.num_runs,
        "command": notes.command if notes.command is not None else command,
        "command_left": left,
        "plan": plan_view(draft.plan) if draft.plan else None,
        "plan_is_old": bool(draft.plan) and draft.planned != draft.digest,
        "plan_is_wanted": read.is_ready and not is_planned,
        "failure": draft.failure if draft.failed == draft.digest else "",
        "failure_at": failed_field(draft.failure) if draft.failed == draft.digest else "",
        "shipped": [(name, summary_of(name)) for name in shipped_names()],
        "files": found,
        "drafts": drafts,
    }


def failed_field(failure: str) -> str:
    """Return the setting that a failed plan names first, or nothing.

    Example:
        >>> failed_field("data.max_tokens: every example is longer"), failed_field("rows.jsonl: empty")
        ('data.max_tokens', '')
    """
    name = failure.partition(":")[0]
    return name if name in fields() else ""


def applied(draft: Draft, form: Mapping[str, str]) -> tuple[Draft, bool]:
    """Return a draft with what a person changed in the form or in the YAML.

    Args:
        draft: The draft.
        form: The fields as the browser sent them; ``good`` is the text that they were made from.

    Returns:
        The draft, and whether comments could not be kept.
    """
    good = form.get("good", draft.good).replace("\r\n", "\n")
    text = form.get("yaml", draft.text).replace("\r\n", "\n")
    name = form.get("name", draft.name).strip()
    try:
        settings_in(text)
    except RecipeError:
        return replace(draft, name=name, text=text), False  # the form waits until the text can be read
    try:
        changes = changes_in(form, settings_in(good))
    except RecipeError:
        changes = {}
    edit = edited(text, changes)
    return replace(draft, name=name, text=edit.text, good=edit.text), edit.is_rewritten


def _show(request: Request, draft: Draft, notes: Notes | None = None) -> Response:
    studio = studio_of(request)
    store = Drafts(studio.root)
    others = [other for number in store.numbers() if (other := store.load(number)) is not None]
    view = recipe_view(
        read_draft(draft, studio.root), found=contents(studio.root), drafts=others, notes=notes or Notes()
    )
    return page(request, TEMPLATE, view)


def _draft(studio: Studio, number: int) -> Draft:
    draft = Drafts(studio.root).load(number)
    if draft is None:
        raise PageProblem(404, "problems.no_draft", number=number)
    return draft


def _new(studio: Studio, *, name: str, text: str, file: str = "") -> Response:
    settings_in(text)  # an unreadable file is refused where it was chosen
    saved = digest_of(text) if file else ""
    draft = Drafts(studio.root).add(name=free_name(name, studio.root), text=text, file=file, saved=saved)
    return back_to(f"/recipe/{draft.number}")


@router.get("/recipe")
def newest(
    request: Request,
    data: str = "",
    columns: str = "",
    form: Annotated[str, Query(alias="format")] = "",
    model: str = "",
    template: str = "",
    objective: str = "",
) -> Response:
    """Go to a new draft for data, or to the draft that was touched last."""
    studio = studio_of(request)
    if data:
        settings = {"model.name": model, "model.template": template, "training.objective": objective}
        text = text_of_data(data, columns=columns, form=form, settings=settings)
        return _new(studio, name=name_from(data), text=text)
    store = Drafts(studio.root)
    for number in store.numbers():
        if store.load(number) is not None:
            return back_to(f"/recipe/{number}")
    return _new(studio, name="run", text=shipped_text("lora"))


@router.get("/recipe/{number}")
def show(request: Request, number: int) -> Response:
    """Show a draft."""
    return _show(request, _draft(studio_of(request), number))


@router.post("/recipe/new")
def new(request: Request, start: Annotated[str, Form()]) -> Response:
    """Make a draft from a recipe that ships (``shipped:NAME``), a run (``run:PATH``), a file (``file:PATH``), or nothing."""
    studio = studio_of(request)
    kind, _, value = start.partition(":")
    if kind == "empty":
        return _new(studio, name="run", text="")
    if kind == "shipped" and value in shipped_names():
        return _new(studio, name=value, text=shipped_text(value))
    if kind == "run":
        return _new(studio, name=name_from(value), text=text_of_run(studio.existing(value)))
    if kind == "file":
        return _new(studio, name=name_from(value), text=text_of_file(studio.existing(value)), file=value)
    raise PageProblem(422, "problems.not_understood")


@router.post("/recipe/{number}/remove")
def remove(request: Request, number: int) -> Response:
    """Remove a draft; what was saved or started from it stays."""
    studio = studio_of(request)
    cancel_plan(studio.commands, number)
    Drafts(studio.root).remove(number)
    return back_to("/recipe")


async def _sent(request: Request) -> dict[str, str]:
    form = await request.form(max_fields=5_000)
    sent = {name: value for name, value in form.items() if isinstance(value, str)}
    if any(len(value) > LONGEST for value in sent.values()):
        raise PageProblem(422, "problems.not_understood")
    return sent


def _keep(request: Request, number: int, sent: Mapping[str, str]) -> tuple[Draft, bool]:
    """Keep what was sent in the draft; a plan for what it was is not needed any more."""
    studio = studio_of(request)
    before = _draft(studio, number)
    draft, is_rewritten = applied(before, sent)
    kept = Drafts(studio.root).change(number, name=draft.name, text=draft.text, good=draft.good)
    if kept is None:
        raise PageProblem(404, "problems.no_draft", number=number)
    if kept.digest != before.digest:
        cancel_plan(studio.commands, number)
    return kept, is_rewritten


@router.post("/recipe/{number}")
async def apply(request: Request, number: int) -> Response:
    """Take what a person changed, and show the draft again."""
    return await _with_form(_apply, request, number)


def _apply(request: Request, number: int, sent: Mapping[str, str]) -> Response:
    draft, is_rewritten = _keep(request, number, sent)
    return _show(request, draft, Notes(problems=_name_problems(draft), is_rewritten=is_rewritten))


@router.post("/recipe/{number}/plan")
async def plan(request: Request, number: int) -> Response:
    """Take what a person changed, plan the draft, and show it. It takes as long as `instil plan` does."""
    return await _with_form(_plan, request, number)


def _plan(request: Request, number: int, sent: Mapping[str, str]) -> Response:
    studio = studio_of(request)
    draft = _keep(request, number, sent)[0] if sent else _draft(studio, number)
    if read_draft(draft, studio.root).is_ready and NAME.fullmatch(draft.name):
        make_plan(studio.commands, draft)
    return _show(request, _draft(studio, number))


@router.post("/recipe/{number}/command")
async def command(request: Request, number: int) -> Response:
    """Fill the draft from a command line."""
    return await _with_form(_command, request, number)


def _command(request: Request, number: int, sent: Mapping[str, str]) -> Response:
    studio, typed = studio_of(request), sent.get("command", "")
    _draft(studio, number)
    try:
        text, name = text_of_command(studio, typed)
        settings_in(text)
    except PageProblem as problem:
        outside = Problem("command", key="recipe.outside", value=str(problem.values.get("path", "")))
        return _show(request, _draft(studio, number), Notes(problems=(outside,), command=typed))
    except (InstilError, ValueError) as error:
        notes = Notes(problems=(Problem("command", str(error)),), command=typed)
        return _show(request, _draft(studio, number), notes)
    cancel_plan(studio.commands, number)
    values = {"text": text, "good": text} | ({"name": free_name(name, studio.root)} if name else {})
    kept = Drafts(studio.root).change(number, **values)
    assert kept is not None
    return back_to(f"/recipe/{number}")


def text_of_command(studio: Studio, typed: str) -> tuple[str, str]:
    """Return the recipe that a command line means, and a name for its run or nothing.

    Raises:
        InstilError: If it is not one of `VERBS`, or an option is wrong or not for pages; with the command's own words.
        ValueError: If a quote in it has no end.
    """
    words = shlex.split(typed.replace("\\\n", " "))
    words = words[1:] if words[:1] == ["instil"] else words
    if not words or words[0] not in VERBS:
        raise RecipeError(
            f"{' '.join(words)[:60]!r}: Expected a command such as instil train rows.jsonl --adapter lora."
        )
    check_argv(words)
    output = studio.commands.result(studio.commands.start("read", words))
    lines = [line for line in output.text.splitlines() if line.strip()]
    if output.status != 0 or not lines:
        raise RecipeError(
            lines[-1].removeprefix("error: ") if lines else "the command line could not be read. Try again."
        )
    meaning = json.loads(lines[-1])
    others = [option for option in meaning["others"] if option not in ("--quiet", "--json")]
    if others:
        raise RecipeError(f"{others[0]}: is no setting of a recipe. Expected settings alone. Leave it out.")
    start, name = meaning["recipe"], ""
    if start in shipped_names():
        text, name = shipped_text(start), start
    elif start is not None:
        text, name = text_of_file(studio.existing(start)), name_from(start)
    else:
        text, name = "", name_from(meaning["data"] or "")
    return text_of_meaning(meaning, text), name if start or meaning["data"] else ""


@router.post("/recipe/{number}/save")
async def save(request: Request, number: int) -> Response:
    """Save the draft as a file of the workspace."""
    return await _with_form(_save, request, number)


def _save(request: Request, number: int, sent: Mapping[str, str]) -> Response:
    studio = studio_of(request)
    draft, _ = _keep(request, number, sent)
    name = sent.get("file", "").strip() or f"{draft.name}.yaml"
    read = read_draft(draft, studio.root)
    problem = _save_problem(studio, read, name)
    if problem is not None:
        return _show(request, draft, Notes(problems=(problem,)))
    path = studio.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, draft.text)
    relative = path.relative_to(studio.root).as_posix()
    Drafts(studio.root).change(number, file=relative, saved=digest_of(draft.text))
    return back_to(f"/recipe/{number}")


def _save_problem(studio: Studio, read: Read, name: str) -> Problem | None:
    """Return why a draft cannot be saved under a name."""
    if not name.endswith((".yaml", ".yml")):
        return Problem("file", key="recipe.no_yaml_name", value=name)
    # What a page may not start, it may not write either: a file is found again, and a run's recipe is resumed.
    if read.unreadable or any(problem.key in REFUSALS for problem in read.checked.problems):
        return Problem("file", key="recipe.not_saved", value=name)
    try:
        path = studio.path(name)
    except PageProblem:
        return Problem("file", key="recipe.outside", value=name)
    if path.is_dir():
        return Problem("file", key="recipe.exists", value=name)
    if path.exists() and (
        path.relative_to(studio.root).as_posix() != read.draft.file
        or digest_of(path.read_text(encoding="utf-8", errors="replace")) != read.draft.saved
    ):
        return Problem("file", key="recipe.exists", value=name)
    return None


@router.post("/recipe/{number}/start")
async def start(request: Request, number: int) -> Response:
    """Put the run, or the sweep, into the queue."""
    return await _with_form(_start, request, number)


def _start(request: Request, number: int, sent: Mapping[str, str]) -> Response:
    studio = studio_of(request)
    draft, _ = _keep(request, number, sent)
    read = read_draft(draft, studio.root)
    problems = [*_name_problems(draft), *_run_problems(studio, read)]
    if problems or not read.is_ready:
        return _show(request, draft, Notes(problems=tuple(problems)))
    recipe = read.checked.recipe
    assert recipe is not None
    run = _run_of(recipe.output, studio.root)
    # The queue may be long: what is started is what was on the page, whatever becomes of the draft.
    started = Drafts(studio.root).folder / "started" / digest_of(f"{draft.text}\0{run}")[:12] / f"{draft.name}.yaml"
    started.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text_atomic(started, draft.text)
    argv = ["train", f"./{started.relative_to(studio.root).as_posix()}"]
    job = studio.queue.add(argv, title=draft.name, run=run, lane="device")
    # The page of a run shows it from the queue on; a sweep is several runs, which the job's log tells.
    return back_to(f"/jobs/{job}" if recipe.sweep else address_of(run))


def _run_of(output: str, root: Path) -> str:
    path = (root / output).resolve()
    return path.relative_to(root).as_posix()


def _name_problems(draft: Draft) -> tuple[Problem, ...]:
    return () if NAME.fullmatch(draft.name) else (Problem("name", key="recipe.bad_name", value=draft.name),)


def _run_problems(studio: Studio, read: Read) -> list[Problem]:
    """Return why a run cannot be started: no data, its folder exists, or a job that waits will write it."""
    recipe = read.checked.recipe
    if recipe is None:
        return []
    if not recipe.data.sources and "data.sources" not in recipe.sweep:
        return [Problem("data.sources", key="recipe.needs_data")]
    run = _run_of(recipe.output, studio.root)
    waiting = any(job.run == run and job.state in ("queued", "running") for job in studio.queue.jobs())
    if waiting or (studio.root / run).exists() or run.partition("/")[0] == OWN:
        return [Problem("name", key="recipe.run_exists", value=run)]
    return []


async def _with_form(
    work: Callable[[Request, int, Mapping[str, str]], Response], request: Request, number: int
) -> Response:
    """Do the work of a route with what was sent, in a thread."""
    return await run_in_threadpool(work, request, number, await _sent(request))
