"""`instil.inspect`: data as the model will see it, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from instil.api.arguments import path_of
from instil.api.recipes import AnyRecipe, names_recipe, recipe_of
from instil.data.memory_rows import is_path
from instil.encoding.proof import Proof
from instil.errors import DataError, RecipeError
from instil.inspection import report
from instil.inspection.findings import KINDS, Finding
from instil.inspection.inspection import Inspection
from instil.inspection.shown_rows import ShownRow, show_row
from instil.inspection.survey import Survey
from instil.preparation.ledger import Ledger
from instil.recipe import Objective, Recipe, source_name
from instil.remote.urls import clean_url
from instil.units import counted
from instil.views.html import frame, left_out, table, warnings


@dataclass(frozen=True, slots=True)
class Inspected:
    """The result of looking at data.

    Attributes:
        inspection: The data with the tokenizer and the template that encode it.
        survey: Ledger, lengths and findings of every row.
        proof: The proof of the template.
    """

    inspection: Inspection
    survey: Survey
    proof: Proof

    @property
    def ledger(self) -> Ledger:
        """The account of the rows, as training would have it."""
        return self.survey.ledger

    @property
    def findings(self) -> list[Finding]:
        """What is wrong or worth a look, each with its place; of a kind that is frequent, the first ones."""
        return list(self.survey.findings)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings there are of each kind."""
        return self.survey.findings.counts

    @property
    def rows(self) -> Iterator[ShownRow]:
        """The kept rows with every token and its weight: those with findings first."""
        for row in self.survey.rows:
            yield show_row(self.inspection.chat, row, [each for each in self.findings if each.place == row.place])

    def row(self, row: str | int) -> ShownRow:
        """Return one row with every token.

        Args:
            row: Its number, from 1, or its place: ``train.jsonl:412``, ``rows[12]``.

        Why: numbers count from 1 for every source, as in the findings of files. Places of rows from Python are indices,
        which count from 0. So ``row(3)`` is ``rows[2]``, and the result names both.
        """
        return self.inspection.row(str(row))

    def to_json(self) -> dict[str, Any]:
        """Return what ``instil inspect --json`` prints."""
        return report.to_json(self.inspection.subject, self.survey, self.proof)

    def write_page(self, path: str | Path) -> str:
        """Write the mask page of the kept rows, one self-contained HTML file, and return a line about it."""
        return self.inspection.write_page(path_of("path", path, DataError), self.survey, self.proof)

    def __repr__(self) -> str:
        found = ", ".join(f"{kind} {count}" for kind, count in self.counts.items()) or "none"
        return "\n".join([*self.ledger.lines(), f"findings         {found}"])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the ledger, and the findings with their first place and remedy."""
        first = {finding.kind: finding for finding in reversed(self.findings)}
        rows = [
            [KINDS[kind].severity, KINDS[kind].title, f"{count:,}", _example_of(first.get(kind)), KINDS[kind].remedy]
            for kind, count in self.counts.items()
            if count
        ]
        ledger = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in self.ledger.lines()]
        findings = table(["severity", "finding", "rows", "first", "remedy"], rows)
        body = warnings([] if self.proof.passed else ["the proof of the template failed"])
        body += table(["ledger", ""], ledger) + (findings or left_out("nothing was found"))
        return frame("Inspected", facts=[counted(self.ledger.rows_in, "row")], body=body)


def _example_of(finding: Finding | None) -> str:
    return "" if finding is None else f"{finding.place or ''} {finding.seen}".strip()


def inspect(
    data: AnyRecipe = None,
    *,
    model: str | PathLike[str] | None = None,
    template: str | None = None,
    objective: Objective | None = None,
    keep_rows: int = 20,
    **settings: Any,
) -> Inspected:
    """Look at data as the model will see it: ledger, lengths, findings, proof of the template, every token.

    Args:
        data: As the first argument of `instil.train`: data from anywhere, or a recipe.
        model: Model whose tokenizer and template are used; `demo` by default.
        template: Chat template instead of the model's own.
        objective: What the rows are for: ``dpo``, ``ipo``, ``simpo`` and ``orpo`` read pairs, ``kto`` reads judged
            answers. By default the recipe's, else ``sft``.
        keep_rows: Number of rows to keep for `rows` and the page.
        **settings: As for `instil.train`.

    Raises:
        InstilError: If settings, data or model are wrong.

    Example:
        >>> result = inspect([{"question": "2+2?", "answer": "4"}, {"question": "?", "answer": ""}], model="demo")
        >>> result.ledger.rows_in
        2
        >>> [str(finding.place) for finding in result.findings if finding.kind == "empty_answer"]
        ['rows[1]']
    """
    if not isinstance(keep_rows, int) or isinstance(keep_rows, bool) or keep_rows < 0:
        raise RecipeError(f"keep_rows: found {keep_rows!r}. Expected a number of rows from 0. Set it.")
    chosen = {"model.name": model, "model.template": template, "training.objective": objective}
    settings |= {key: value for key, value in chosen.items() if value is not None}
    if data is None and not settings.keys() & {"data", "data.sources"}:
        raise RecipeError("instil.inspect: found no data. Expected a path, rows or a recipe. Pass one of them.")
    recipe = recipe_of(data, settings=settings)
    inspection = Inspection.of(_name_of(data, recipe), recipe, trains=names_recipe(data))
    return Inspected(inspection, inspection.survey(keep_rows=keep_rows), inspection.prove())


def _name_of(data: Any, recipe: Recipe) -> str:
    """Return what the data is called: the path that the caller passed, else the names of the recipe's sources."""
    return (
        clean_url(str(data)) if is_path(data) else ", ".join(source_name(source.path) for source in recipe.data.sources)
    )
