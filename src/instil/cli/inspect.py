"""``instil inspect``: data as the model will see it, what is wrong with it, and a fixed copy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instil.errors import DataError, RecipeError
from instil.recipe import DataSettings, Format, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.inspection.report import Subject
    from instil.preparation.chat_setup import ChatSetup

PAGE_ROWS = 2000
DIFFS_IN_A_TERMINAL = 100


def inspect(
    data: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    model: str | None = None,
    template: str | None = None,
    stop_token: Literal["own", "eos"] | None = None,
    format: Format | None = None,
    row: str | None = None,
    html: Path | None = None,
    html_rows: int = PAGE_ROWS,
    fix: Path | None = None,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    settings: Annotated[DataSettings | None, Parameter(name="data")] = None,
) -> None:
    """Show data as the model will see it: format, ledger, lengths, template proof, findings, every token.

    Args:
        data: File, folder, glob, `-` for standard input, Hub id, or a recipe (.yaml).
        model: Model whose tokenizer and template are used: run, model folder, Hub id or `demo` (the default).
        template: Chat template instead of the model's own, as `model.template` in a recipe.
        stop_token: What ends a turn of a template given here, as `model.stop_token` in a recipe.
        format: Format of the rows; detected by default.
        row: Show this row alone, every token coloured: its number, or its place (train.jsonl:412).
        html: Write the mask page, one self-contained HTML file, here.
        html_rows: Largest number of rows on the page; rows with findings come first.
        fix: Write a fixed copy of the rows here (.jsonl) and print the changes.
        as_json: Print JSON instead of text.
        settings: Any setting of a recipe's `data`.
    """
    from rich.console import Console

    given: dict[str, Any] = {"name": model, "template": template, "stop_token": stop_token}
    recipe = _recipe(
        data,
        model={key: value for key, value in given.items() if value is not None},
        format=format,
        settings={} if settings is None else settings.model_dump(exclude_unset=True),
    )
    _check_asked(row=row, fix=fix, html=html, html_rows=html_rows)
    recipe, chat, subject = _set_up(data, recipe)
    console = Console(highlight=False, soft_wrap=False)
    if fix is not None:
        _fix(recipe, chat, fix, console=console, as_json=as_json)
    elif row is not None:
        _show_row(recipe, chat, row, console=console, as_json=as_json)
    else:
        _show_all(recipe, chat, subject, console=console, html=html, html_rows=html_rows, as_json=as_json)


def _recipe(data: str, *, model: dict[str, Any], format: Format | None, settings: dict[str, Any]) -> Recipe:
    """Return the named recipe, or one made for the data alone."""
    if data.endswith((".yaml", ".yml")):
        if format is not None:
            raise RecipeError(f"{data}: --format is for data; found a recipe; set data.sources.format in it")
        return Recipe.load(data, {"model": model, "data": settings})
    if "sources" in settings:
        raise RecipeError(f"{data}: the data is named twice (also --data.sources); expected it once; leave one out")
    source = {"path": data} if format is None else {"path": data, "format": format}
    return Recipe.from_mapping({"model": model, "data": {**settings, "sources": [source]}}, source="instil inspect")


def _check_asked(*, row: str | None, fix: Path | None, html: Path | None, html_rows: int) -> None:
    from instil.inspection.fixed_file import check_target

    asked = [name for name, given in (("--row", row), ("--fix", fix), ("--html", html)) if given is not None]
    if len(asked) > 1:
        raise RecipeError(f"instil inspect: found {' and '.join(asked)}; expected one of them; run it once for each")
    if html_rows < 1:
        raise RecipeError(f"--html-rows {html_rows}: expected at least 1; give the number of rows to show")
    if fix is not None:
        check_target(fix)
    if html is not None and html.is_dir():
        raise DataError(f"{html}: is a folder; expected a file to write the page to; name one, such as page.html")
    if html is not None and not html.parent.is_dir():
        raise DataError(f"{html}: its folder is not there; expected an existing folder; make it first")


def _set_up(data: str, recipe: Recipe) -> tuple[Recipe, ChatTokenizer, Subject]:
    """Build the chat tokenizer and resolve the longest example, as training does."""
    from instil.inspection.report import Subject
    from instil.model.folder.location import locate_tokenizer
    from instil.preparation.chat_setup import set_up_chat, with_max_tokens

    remote = recipe.model.trust_remote_code
    location = locate_tokenizer(recipe.model.name, recipe.model.revision, trust_remote_code=remote)
    if (location.folder / "config.json").exists():
        recipe = with_max_tokens(recipe, location)
    setup = set_up_chat(recipe, location)
    name = f"{_template_name(recipe, setup)} ({setup.chat.template.fingerprint[:12]})"
    return recipe, setup.chat, Subject(data, recipe.model.name, name, setup.chat.stop_tokens, setup.notes)


def _template_name(recipe: Recipe, setup: ChatSetup) -> str:
    from instil.preparation.chat_setup import DEFAULT_TEMPLATE

    given = recipe.model.template
    if given is None:
        return DEFAULT_TEMPLATE if setup.notes else "the model's own"
    return given if len(given) < 60 and "\n" not in given else "given as source"


def _show_all(
    recipe: Recipe,
    chat: ChatTokenizer,
    subject: Subject,
    *,
    console: Console,
    html: Path | None,
    html_rows: int,
    as_json: bool,
) -> None:
    from instil.inspection.page_file import write_page
    from instil.inspection.report import print_report, to_json
    from instil.inspection.survey import survey

    with _progress() as advance:
        found = survey(recipe, chat, keep_rows=html_rows if html else 0, on_progress=advance)
    proof = chat.prove()
    if as_json:
        _print_json(to_json(subject, found, proof))
    else:
        print_report(console, subject, found, proof)
    if html is not None:
        said = write_page(html, chat, subject, found, proof)
        print(said, file=sys.stderr if as_json else sys.stdout)


def _show_row(recipe: Recipe, chat: ChatTokenizer, row: str, *, console: Console, as_json: bool) -> None:
    from instil.inspection.report import print_row, row_to_json
    from instil.inspection.shown_rows import find_row

    shown = find_row(recipe, chat, row)
    if as_json:
        _print_json(row_to_json(shown))
    else:
        print_row(console, shown)


def _fix(recipe: Recipe, chat: ChatTokenizer, path: Path, *, console: Console, as_json: bool) -> None:
    from instil.inspection.fixed_file import FixedFile, diff_lines, write_fixed
    from instil.inspection.repair import repair_all

    changes: list[dict[str, Any]] = []
    # A terminal shows the first changes only; a file or a pipe gets all of them.
    limit = DIFFS_IN_A_TERMINAL if console.is_terminal else None
    shown = 0
    for each in write_fixed(repair_all(recipe, stop_tokens=chat.stop_tokens), path):
        if isinstance(each, FixedFile):
            done = each
        elif as_json:
            changes.append({"place": str(each.place), "changes": list(each.changes), "left_out": each.after is None})
        else:
            shown += 1
            for line in diff_lines(each) if limit is None or shown <= limit else ():
                console.print(line, soft_wrap=True)
    if as_json:
        _print_json({"path": str(path), **done.to_json(), "changes": changes})
        return
    if limit is not None and shown > limit:
        console.print(f"… and {shown - limit:,} rows more; send the output to a file to see them all")
    console.print(str(done), markup=False, soft_wrap=True)


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=True, indent=1)
    sys.stdout.write("\n")


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Count rows on standard error where a person is looking."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("reading") as status:
        yield lambda rows: status.update(f"{rows:,} rows")
