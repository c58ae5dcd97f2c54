"""An evaluation on the terminal: the table of figures, what it shows in words, groups of prompts, how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instil.screen import Cell, Column, Screen

if TYPE_CHECKING:
    from instil.evaluation.figure_table import Figure, FigureRow
    from instil.evaluation.results import Evaluation

MEANINGS = {"better": "good", "worse": "bad"}


def print_evaluation(screen: Screen, evaluation: Evaluation) -> None:
    """Print an evaluation. A terminal gets two lines a cell, so that figures and intervals fit 80 columns."""
    from instil.evaluation.figure_table import figure_rows, model_words, sampling_words, short_names
    from instil.evaluation.report import selection_of

    results = evaluation.models
    against = f" against {evaluation.against.name}" if evaluation.against else ""
    screen.heading(f"{evaluation.model.name}{against} on {evaluation.data}")
    screen.line(f"{selection_of(evaluation)}; in brackets: 95% intervals")
    # What is wrong with figures stays beside them, also in a file.
    for warning in (*evaluation.warnings, *evaluation.notes):
        screen.line(f"warning: {warning}", style="yellow")
    rows = figure_rows(evaluation)
    screen.heading("Figures")
    _print_figures(screen, rows, short_names([result.name for result in results]))
    screen.heading("What they show")
    screen.facts([(row.label, "\n".join(filter(None, [row.verdict, row.meaning]))) for row in rows])
    _print_groups(screen, evaluation)
    if evaluation.contamination is not None:
        screen.heading("Overlap with the training data")
        screen.line(evaluation.contamination.summary)
        for reason in evaluation.contamination.not_compared:
            screen.line(f"Not compared with: {reason}")
    screen.heading("How it was measured")
    facts = [("answers", sampling_words(evaluation.settings))]
    screen.facts([*facts, *((result.name, model_words(result)) for result in results)])


def _print_figures(screen: Screen, rows: Sequence[FigureRow], names: Sequence[str]) -> None:
    from instil.evaluation.figure_table import PAIR_HEAD

    is_compared = len(names) > 1
    columns = [Column("figure"), *(Column(name) for name in names)]
    columns += [Column(name) for name in PAIR_HEAD] if is_compared else []
    lines: list[list[str | Cell]] = []
    for row in rows:
        line: list[str | Cell] = [row.label, *(Cell(_cell(screen, cell), "figure") for cell in row.cells)]
        if is_compared:
            change, *others = row.pair_cells
            meaning = MEANINGS.get(row.kind or "", "" if row.comparison else "quiet")
            line += [Cell(change.replace(" [", "\n[") if screen.is_terminal else change, meaning), *others]  # type: ignore[arg-type]
        lines.append(line)
    screen.table(columns, lines)


def _cell(screen: Screen, figure: Figure) -> str:
    """Return a figure for a cell: the value above its interval, or all on one line where lines are not wrapped."""
    if not figure.interval or not screen.is_terminal:
        return str(figure)
    return f"{figure.value} n={figure.n:,}\n{figure.interval}"


def _print_groups(screen: Screen, evaluation: Evaluation) -> None:
    from instil.evaluation.figure_table import slice_table

    shown = slice_table(evaluation.model.slices)
    if not evaluation.model.slices:
        return
    screen.heading(shown.title)
    if shown.rows:
        columns = [Column("group"), Column("prompts", number=True), *(Column(task) for task in shown.tasks)]
        screen.table(columns, shown.rows)
    if shown.folded:
        screen.note(f"in evaluation.html: {shown.folded_words}")
