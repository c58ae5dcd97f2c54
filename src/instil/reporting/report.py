"""The report of a run: one page with its card, settings, ledger, curves, sample answers, evaluation and environment.

Why: everything is read from the folder, each part on its own. So a run that goes on, was killed or is damaged has a
report too, which names what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from instil.errors import InstilError, RunError
from instil.files import home_path, size_on_disk, write_text_atomic
from instil.preparation.ledger import Ledger
from instil.recipe import Recipe
from instil.refused_writes import refused_writes
from instil.reporting.report_answers import evaluation_part, sample_answers
from instil.reporting.report_curves import curves
from instil.reporting.run_table import number
from instil.reporting.runs import RunSummary, find_runs, summarise
from instil.training.records.loss_figure import points_of
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths, is_run, read_run_json, resume_command, run_name
from instil.training.records.run_settings import default_settings, settings_of, shorten_sources
from instil.training.records.run_view import main_settings, result_rows, warning_texts
from instil.units import byte_size, counted, duration, loss_words, share_words
from instil.views.html import escaped
from instil.views.page import html_page
from instil.views.page_parts import beside, folded, mark, pairs, paragraph, section, table, text_box

REPORT = "report.html"
"""Name of the report in a run folder."""


def write_report(run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a run as one HTML file, whole or not at all, and return its path.

    Args:
        run: A run folder; the run may go on, or be damaged.
        out: The file. Default: ``report.html`` in the run folder.

    Raises:
        RunError: If it is no run folder, or the file cannot be written.
    """
    folder = home_path(run)
    _check_is_run(folder)
    path = folder / REPORT if out is None else home_path(out)
    page = report_page(folder, beside=path.parent)
    with refused_writes(path, raises=RunError, found="the report cannot be written", otherwise="choose another --out"):
        write_text_atomic(path, page)
    return path


def _check_is_run(folder: Path) -> None:
    if is_run(folder):
        return
    inside = find_runs(folder)
    if inside:
        names = ", ".join(str(path) for path in inside[:3]) + (" …" if len(inside) > 3 else "")
        raise RunError(
            f"{folder}: {counted(len(inside), 'run')} in it, and it is none itself. Expected a run folder. "
            f"Name one of them: {names}."
        )
    raise RunError(f"{folder}: not a run folder. Expected one that `instil train` wrote. Name another folder.")


def report_page(folder: Path, *, beside: Path) -> str:
    """Return the report as HTML.

    Args:
        folder: The run folder.
        beside: The folder that the page will lie in, for links to files of the run.
    """
    paths, read = RunPaths(folder), _Read(folder)
    sections = [
        section("Warnings", lambda: _warnings(read), name="warnings"),
        section("Result", lambda: _result(read), name="result"),
        section("Run card", lambda: _card(paths), name="card"),
        section("Settings", lambda: _settings(folder), name="settings"),
        section("Curves", lambda: _curves(read), name="curves"),
        section("Samples", lambda: _samples(paths), name="samples"),
        section("Evaluation", lambda: _evaluation(folder, beside), name="evaluation"),
        section("Data", lambda: _data(paths), name="data"),
        section("Environment", lambda: _environment(paths), name="environment"),
        section("Files", lambda: _files(folder), name="files"),
    ]
    name = run_name(folder)
    head = f'<h1>{escaped(name)}</h1><p class="facts">{escaped(" · ".join(_facts(read)))}</p>'
    return html_page(f"{name} – run", body=f'<main class="report">{head}{"".join(sections)}</main>')


class _Read:
    """What several sections show, read once; a part that is damaged raises its error wherever it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = RunPaths(folder)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.paths.metrics)

    @property
    def metrics_or_none(self) -> list[dict[str, Any]]:
        """The metrics; none if they are damaged, which the section of the curves names."""
        try:
            return self.metrics
        except RunError:
            return []

    @cached_property
    def summary(self) -> RunSummary | RunError:
        """The summary, or why there is none."""
        try:
            return summarise(self.folder)
        except RunError as error:
            return error


def _facts(read: _Read) -> list[str]:
    """Return state, steps, losses, size and date, as far as they can be read."""
    run = read.summary
    if isinstance(run, RunError):
        return ["damaged", str(read.folder.resolve())]
    facts = [run.state, run.model, counted(run.steps, "step")]
    if run.heldout_loss is not None:
        won = "" if run.heldout_accuracy is None else f", {share_words(run.heldout_accuracy)} of pairs won"
        facts.append(f"held-out loss {number(run.heldout_loss)} after step {run.heldout_step:,}{won}")
    facts += [f"{duration(run.seconds)} in steps", byte_size(run.size)]
    return facts + ([run.date.strftime("%Y-%m-%d %H:%M")] if run.date else [])


def _warnings(read: _Read) -> str:
    """Return what is missing, what is damaged, and the warnings of the run."""
    paths, run, marks = read.paths, read.summary, []
    if isinstance(run, RunError):
        marks.append(mark(str(run), "error"))
    elif run.state == "running":
        marks.append(mark("The run goes on. This page shows it as it was when the page was written.", "note"))
    elif run.state == "not finished":
        going_on = f"Continue it: {resume_command(run.folder)}"
        marks.append(mark(f"The run is not finished: there is no results.json. {going_on}", "warning"))
    missing = [path.name for path in (paths.metrics, paths.ledger, paths.environment) if not path.exists()]
    if missing:
        marks.append(mark(f"Not in the folder: {', '.join(missing)}.", "warning"))
    texts = [text for path in (paths.results, paths.ledger) for text in warning_texts(_json_or_empty(path))]
    failures = [
        f"step {line.get('step')}: {text}" for line in read.metrics_or_none for text in line.get("failures") or []
    ]
    marks += [mark(text, "warning") for text in dict.fromkeys((*texts, *failures))]
    return "".join(marks)


def _json_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_run_json(path)
    except RunError:  # the section of the file names it
        return {}


def _result(read: _Read) -> str:
    results = read_run_json(read.paths.results)
    heldout = points_of(read.metrics_or_none, "heldout_loss")
    best = min((point for point in heldout if point[0] > 0), key=lambda point: point[1], default=None)
    won = dict(points_of(read.metrics_or_none, "heldout_accuracy"))
    rows = [
        (
            f"{step:,}" if step else "before training",
            loss_words(loss),
            *([share_words(won.get(step))] if won else []),
            "lowest" if (step, loss) == best else "",
        )
        for step, loss in heldout
    ]
    head = ["after step", "held-out loss", *(["won"] if won else []), ""]
    measured = table(head, rows, numbers=(0, 1, 2) if won else (0, 1))
    few = len(rows) <= 12
    return beside(
        [pairs(result_rows(results)), measured if few else folded(f"{len(rows):,} held-out losses", measured)]
    )


def _card(paths: RunPaths) -> str:
    """Return the run card as it was printed, without its warnings; nothing for a run of an earlier version."""
    groups = read_run_json(paths.card).get("groups", [])
    shown = [group for group in groups if group["facts"] and group["title"] != "Warnings"]
    parts = [
        (f"<h3>{escaped(group['title'])}</h3>" if group["title"] else "")
        + pairs([(str(name), str(value)) for name, value in group["facts"]])
        for group in shown
    ]
    return "".join(parts)


def _settings(folder: Path) -> str:
    """Return the main settings, those that differ from their defaults, and all of them folded."""
    settings = settings_of(folder)
    defaults = default_settings()
    chosen = [(name, value) for name, value in settings.items() if value != defaults.get(name) and name != "output"]
    try:
        main = pairs(main_settings(Recipe.load_saved(folder)))
    except InstilError as error:  # of another version, or damaged
        main = mark(str(error), "warning")
    differing = pairs([(name, _value(value)) for name, value in chosen])
    title = "<h3>Set, or resolved to another value than the default</h3>"
    everything = pairs([(name, _value(value)) for name, value in settings.items()])
    return beside([main, title + differing]) + folded(f"All {len(settings)} settings", everything)


def _value(value: Any) -> str:
    value = shorten_sources(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def _curves(read: _Read) -> str:
    drawn = curves(read.metrics)
    return drawn or paragraph("No step has been recorded yet.", "soft")


def _samples(paths: RunPaths) -> str:
    return sample_answers(paths.samples) or paragraph("There are no sample answers.", "soft")


def _evaluation(folder: Path, beside: Path) -> str:
    evaluation = read_run_json(folder / "evaluation" / "evaluation.json")
    if not evaluation:
        return paragraph(f"Not evaluated yet. instil evaluate {folder} --data FILE measures the model.", "soft")
    page = folder / "evaluation" / "evaluation.html"
    link = Path(os.path.relpath(page.resolve(), beside.resolve())).as_posix() if page.exists() else None
    return evaluation_part(evaluation, page=link)


def _data(paths: RunPaths) -> str:
    saved = read_run_json(paths.ledger)
    if not saved:
        return ""
    ledger, heldout = Ledger.from_json(saved), Ledger.from_json(saved.get("heldout") or {})
    parts = [text_box("\n".join([*ledger.evidence, *ledger.lines()]))]
    if heldout.rows_in:
        parts += ["<h3>Held out</h3>", text_box("\n".join(heldout.lines(used="evaluated")))]
    return "".join(parts)


def _environment(paths: RunPaths) -> str:
    environment = read_run_json(paths.environment)
    facts = [
        (name, str(environment[name]))
        for name in ("device", "platform", "threads", "processes")
        if environment.get(name) is not None
    ]
    more: list[tuple[str, str]] = []
    for group in ("versions", "fingerprints"):
        values = environment.get(group)
        more += [(str(name), str(value)) for name, value in (values if isinstance(values, Mapping) else {}).items()]
    return pairs(facts) + folded("Versions and fingerprints", pairs(more))


def _files(folder: Path) -> str:
    rows = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name != REPORT:
            rows.append((path.name + ("/" if path.is_dir() else ""), byte_size(size_on_disk(path))))
    return folded(f"{folder.resolve()}", table(["file", "size"], rows, numbers=(1,)))
