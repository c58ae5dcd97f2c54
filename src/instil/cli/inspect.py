"""``instil inspect``: show data as the model will see it, what is wrong with it, and write a fixed copy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instil.api.subjects import subject_of
from instil.cli.settings import check_files, load_recipe
from instil.errors import DataError, RecipeError
from instil.recipe import DataSettings, Format, Objective, Recipe
from instil.recipe.shipped import recipe_file

if TYPE_CHECKING:
    from rich.console import Console

    from instil.inspection.inspection import Inspection

PAGE_ROWS = 2000


def inspect(
    data: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    model: str | None = None,
    template: str | None = None,
    stop_token: Literal["own", "eos"] | None = None,
    format: Format | None = None,
    objective: Objective | None = None,
    row: str | None = None,
    html: Path | None = None,
    html_rows: int = PAGE_ROWS,
    fix: Path | None = None,
    as_json: Annotated[bool, Parameter(name="json")] = False,
    quiet: bool = False,
    settings: Annotated[DataSettings | None, Parameter(name="data")] = None,
) -> None:
    """Show data as the model will see it: format, ledger, lengths, template proof, findings, every token.

    Args:
        data: File, folder, glob, `-` for standard input, Hub id, or a recipe (.yaml, or the name of one that ships).
        model: Model whose tokenizer and template are used: run, model folder, Hub id or `demo` (the default).
        template: Chat template instead of the model's own, as `model.template` in a recipe.
        stop_token: Stop token of the template given here, as `model.stop_token` in a recipe.
        format: Format of the rows; detected by default.
        objective: What the rows are for: dpo, ipo, simpo and orpo read pairs, kto reads judged answers. By default the
            recipe's, else sft.
        row: Show only this row, every token coloured: its number, or its place (train.jsonl:412).
        html: File for the mask page, one self-contained HTML file.
        html_rows: Largest number of rows on the page; rows with findings come first.
        fix: File (.jsonl) for a fixed copy of the rows; the changes are printed.
        as_json: Print JSON instead of text.
        quiet: Show no bar.
        settings: Any setting of a recipe's `data`.
    """
    del quiet  # bars are hidden before a verb is imported
    model_settings: dict[str, Any] = {"name": model, "template": template, "stop_token": stop_token}
    recipe = _recipe(
        data,
        model={key: value for key, value in model_settings.items() if value is not None},
        format=format,
        objective=objective,
        settings={} if settings is None else settings.model_dump(exclude_unset=True),
    )
    check_files(recipe)
    _check_outputs(row=row, fix=fix, html=html, html_rows=html_rows)

    from rich.console import Console

    from instil.inspection import report
    from instil.inspection.inspection import Inspection
    from instil.inspection.row_screen import print_row
    from instil.screen import hide_work

    is_recipe = data is not None and recipe_file(data) is not None
    subject = data or ", ".join(source.path for source in recipe.data.sources)
    inspection = Inspection.of(subject, recipe, trains=is_recipe)
    if fix is not None or row is not None:
        hide_work()
    console = Console(highlight=False, soft_wrap=False)
    if fix is not None:
        changes = inspection.fix(fix)
        if as_json:
            _print_json(report.fixes_to_json(changes))
        else:
            report.print_fixes(console, changes)
    elif row is not None:
        shown = inspection.row(row)
        if as_json:
            _print_json(report.row_to_json(shown))
        else:
            print_row(console, shown)
    else:
        _show_data(inspection, console, html=html, html_rows=html_rows, as_json=as_json)


def _show_data(inspection: Inspection, console: Console, *, html: Path | None, html_rows: int, as_json: bool) -> None:
    """Print the report on all rows, and write the page if it has a file.

    Raises:
        DataError: After the report, if no row can be trained.
    """
    from instil.inspection import report
    from instil.screen import hide_starting, hide_work
    from instil.units import counted

    if not as_json:
        hide_starting()  # the reader has something to read while the rows are
        report.print_subject(console, inspection.subject)
    survey = inspection.survey(keep_rows=html_rows if html else 0)
    proof = inspection.prove()
    hide_work()
    if as_json:
        _print_json(report.to_json(inspection.subject, survey, proof))
    else:
        report.print_report(console, inspection.subject, survey, proof)
    if html is not None:
        print(inspection.write_page(html, survey, proof), file=sys.stderr if as_json else sys.stdout)
    if not survey.ledger.rows_trained:
        raise DataError(
            f"{inspection.subject.data}: none of {counted(survey.ledger.rows_in, 'row')} can be trained. Expected one at least. "
            "The findings above have the reasons."
        )


def _recipe(
    data: str | None,
    *,
    model: dict[str, Any],
    format: Format | None,
    objective: Objective | None,
    settings: dict[str, Any],
) -> Recipe:
    """Return the recipe that `data` names, or one that has this data as its source."""
    training = {} if objective is None else {"training": {"objective": objective}}
    if data is not None and subject_of(data).recipe is not None:
        if format is not None:
            raise RecipeError(
                f"{data}: found a recipe and --format. Expected --format with data only. "
                "Set data.sources.format in the recipe."
            )
        return load_recipe(data, {"model": model, "data": settings, **training})
    if (data is None) is ("sources" not in settings):
        found = "no data" if data is None else f"{data} and --data"
        raise RecipeError(f"instil inspect: found {found}. Expected data once, such as rows.jsonl. Name it once.")
    settings = settings if data is None else {**settings, "sources": [data]}
    if format is not None:
        settings = {**settings, "format": format}
    return Recipe.from_mapping({"model": model, "data": settings, **training}, source="instil inspect")


def _check_outputs(*, row: str | None, fix: Path | None, html: Path | None, html_rows: int) -> None:
    """Check the options for the output before any model or data is loaded."""
    from instil.inspection.fixed_file import check_target

    options = [name for name, value in (("--row", row), ("--fix", fix), ("--html", html)) if value is not None]
    if len(options) > 1:
        raise RecipeError(f"instil inspect: found {' and '.join(options)}. Expected one of them. Run it once for each.")
    if html_rows < 1:
        raise RecipeError(f"--html-rows {html_rows}: too small. Expected at least 1. Set the number of rows to show.")
    if fix is not None:
        check_target(fix)
    if html is not None and html.is_dir():
        raise DataError(f"{html}: is a folder. Expected a file for the page. Name one, such as page.html.")
    if html is not None and not html.parent.is_dir():
        raise DataError(f"{html}: its folder does not exist. Expected an existing folder. Make it first.")


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=True, indent=1)
    sys.stdout.write("\n")
