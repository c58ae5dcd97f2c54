"""Print a survey in the terminal, or return it as JSON, for ``instil inspect``.

Why: the terminal shows three places per kind of finding, the page and the JSON a thousand, because nobody reads a
report that scrolls away. The count is always exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from instil.encoding.proof import Proof
from instil.inspection.findings import KINDS, SEVERITY_STYLES, Finding, Findings
from instil.inspection.fixed_file import FixedFile, diff_lines
from instil.inspection.histogram import Bin, LengthHistogram, bar_lines, bin_label
from instil.inspection.page import PageText
from instil.inspection.repair import Repair
from instil.inspection.shown_rows import ShownRow
from instil.inspection.survey import Survey
from instil.run_warning import PREFIX, RunWarning
from instil.screen.wrapping import print_line
from instil.units import counted
from instil.views.visible import plain

PLACES_SHOWN = 3
CHANGES_IN_A_TERMINAL = 100
"""Largest number of changed rows that a terminal shows; a file or a pipe gets all of them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was inspected, in words.

    Attributes:
        data: The data as the user named it.
        model: The model.
        template: The chat template.
        stop_tokens: Texts of the stop tokens.
        notes: Notes about the model, one line each.
        warnings: What is probably wrong with the template for this model.
    """

    data: str
    model: str
    template: str
    stop_tokens: Sequence[str]
    notes: Sequence[str] = ()
    warnings: Sequence[RunWarning] = ()

    def facts(self) -> list[str]:
        """Return short facts for a heading."""
        stops = ", ".join(map(plain, self.stop_tokens)) or "none"
        return [f"model {plain(self.model)}", f"template {plain(self.template)}", f"stop tokens {stops}"]


def print_subject(console: Console, subject: Subject) -> None:
    """Print the first lines of a report: data, model and template. They are known before a row is read."""
    print_line(console, Text(plain(subject.data), style="bold"))
    print_line(console, Text("  " + " · ".join(subject.facts()), style="dim"))
    for note in subject.notes:
        print_line(console, Text(f"  {plain(note)}"))


def print_report(console: Console, subject: Subject, survey: Survey, proof: Proof) -> None:
    """Print a survey without its rows, below what `print_subject` prints."""
    for note in survey.notes:
        print_line(console, Text(f"  {plain(note)}"))
    for line in _warning_lines(subject, survey):
        print_line(console, Text(f"  {plain(line)}", style=SEVERITY_STYLES["warning"]))
    _section(console, "Format", survey.ledger.evidence)
    _section(console, "Ledger", survey.ledger.lines())
    width = max(10, min(40, console.width - 34))
    for title, summary, bins, percent in charts_of(survey) if survey.lengths.count else ():
        _section(console, f"{title}  ({summary})", bar_lines(bins, width=width, percent=percent))
    _section(console, "Template", proof.lines(), style="" if proof.passed else "red")
    console.print()
    for finding in _finding_lines(survey.findings):
        print_line(console, finding)


def print_fixes(console: Console, changes: Iterable[Repair | FixedFile]) -> None:
    """Print the changes of `fixed_file.write_fixed` while it writes, and its counts at the end."""
    limit = CHANGES_IN_A_TERMINAL if console.is_terminal else None
    for number, change in enumerate(changes):
        if isinstance(change, FixedFile):  # the last one: `number` is the count of the changed rows
            if limit is not None and number > limit:
                console.print(f"… and {number - limit:,} rows more; write the output to a file to see all of them")
            console.print(str(change), markup=False, soft_wrap=True)
        elif limit is None or number < limit:
            for line in diff_lines(change):
                console.print(line, soft_wrap=True)


def charts_of(survey: Survey) -> Iterator[tuple[str, str, list[Bin], bool]]:
    """Yield title, summary and bins of every histogram, and whether the bins are shares."""
    yield "Tokens of an example", _summary(survey.lengths), survey.lengths.bins(), False
    ledger = survey.ledger
    if ledger.reading == "sft":
        yield "Trained tokens of an example", _summary(survey.answer_lengths), survey.answer_lengths.bins(), False
    else:
        chosen, rejected = survey.chosen_lengths, survey.rejected_lengths
        names = ("chosen answer", "rejected answer") if ledger.reading == "pairs" else ("good answer", "bad answer")
        yield f"Tokens of a {names[0]}", _summary(chosen), chosen.bins(beside=rejected), False
        yield f"Tokens of a {names[1]}", _summary(rejected), rejected.bins(beside=chosen), False
    share = ledger.trained_tokens / ledger.tokens if ledger.tokens else 0.0
    yield "Trained share of an example", f"{share:.1%} of all tokens", survey.shares.bins(), True


def to_json(subject: Subject, survey: Survey, proof: Proof) -> dict[str, Any]:
    """Return the survey without its rows as JSON values."""
    findings = survey.findings
    return {
        "data": subject.data,
        "model": subject.model,
        "template": subject.template,
        "stop_tokens": list(subject.stop_tokens),
        "formats": list(survey.ledger.evidence),
        "ledger": survey.ledger.to_json(),
        "tokens": _histogram_json(survey.lengths),
        "trained_tokens": _histogram_json(survey.answer_lengths),
        **_sides_json(survey),
        "trained_share": {"bins": [[bar.low, bar.high, bar.count] for bar in survey.shares.bins()]},
        "proof": {
            "passed": proof.passed,
            "num_checked": proof.num_checked,
            "not_carried": list(proof.not_carried),
            "findings": [asdict(finding) for finding in proof.findings],
        },
        "findings": {"counts": findings.counts, "kept": [finding.to_json() for finding in findings]},
        "notes": [*subject.notes, *survey.notes],
        "warnings": [warning.to_json() for warning in (*subject.warnings, *survey.warnings)],
    }


def row_to_json(row: ShownRow) -> dict[str, Any]:
    """Return one row with all its tokens as JSON values."""
    return {
        "place": str(row.place),
        "findings": [finding.to_json() for finding in row.findings],
        "examples": [
            {
                "roles": list(example.roles),
                "shortened": example.shortened,
                "limit": example.limit,
                "side": example.side,
                "pair": example.pair,
                "left_out": example.left_out,
                "tokens": [
                    {
                        "id": token.id,
                        "text": token.text,
                        "weight": token.weight,
                        "message": token.message,
                        "field": token.field,
                    }
                    for token in example.tokens
                ],
            }
            for example in row.examples
        ],
    }


def fixes_to_json(changes: Iterable[Repair | FixedFile]) -> dict[str, Any]:
    """Return the changes of `fixed_file.write_fixed` and its counts as JSON values."""
    file: dict[str, Any] = {}
    rows = []
    for change in changes:
        if isinstance(change, FixedFile):
            file = {"path": str(change.path), **change.to_json()}
        else:
            rows.append({"place": str(change.place), "changes": list(change.changes), "left_out": change.after is None})
    return {**file, "changes": rows}


def page_text(subject: Subject, survey: Survey, proof: Proof, *, num_shown: int) -> PageText:
    """Return the text of the mask page around its rows."""
    rows = survey.ledger.rows_in
    shown = f"{num_shown:,} of {rows:,} rows, those with findings first"
    if num_shown >= rows:
        shown = f"all {rows:,} rows" if rows > 1 else "1 row"
    charts = [
        (f"{title} ({summary})", [(bin_label(bar, percent=percent), bar.count) for bar in bins])
        for title, summary, bins, percent in charts_of(survey)
    ]
    return PageText(
        subject.data,
        [*subject.facts(), shown],
        [*_warning_lines(subject, survey), *survey.ledger.lines(), *subject.notes, *survey.notes],
        survey.ledger.evidence,
        proof.passed,
        proof.lines(),
        charts,
        survey.findings.counts,
    )


def _warning_lines(subject: Subject, survey: Survey) -> list[str]:
    """Return a line for each warning about template and data."""
    return [f"{PREFIX}: {warning.text}" for warning in (*subject.warnings, *survey.warnings)]


def _summary(lengths: LengthHistogram) -> str:
    if not lengths.count:
        return "none"
    median, most = lengths.quantile(0.5), lengths.quantile(0.95)
    return f"median {median:,}, 95% up to {most:,}, longest {lengths.largest:,}"


def _histogram_json(lengths: LengthHistogram) -> dict[str, Any]:
    return {
        "count": lengths.count,
        "total": lengths.total,
        "smallest": lengths.smallest,
        "median": lengths.quantile(0.5),
        "p95": lengths.quantile(0.95),
        "largest": lengths.largest,
        "bins": [[bar.low, bar.high, bar.count] for bar in lengths.bins()],
    }


def _sides_json(survey: Survey) -> dict[str, Any]:
    """Return the lengths of the answers of each side, where the data have sides."""
    if survey.ledger.reading == "sft":
        return {}
    return {
        "chosen_tokens": _histogram_json(survey.chosen_lengths),
        "rejected_tokens": _histogram_json(survey.rejected_lengths),
    }


def _section(console: Console, title: str, lines: Sequence[str], *, style: str = "") -> None:
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        print_line(console, Text(f"  {plain(line)}", style=style))


def _finding_lines(findings: Findings) -> Iterator[Text]:
    if not findings.counts:
        yield Text("Findings: none", style="bold")
        return
    totals = dict.fromkeys(SEVERITY_STYLES, 0)
    for name, count in findings.counts.items():
        totals[KINDS[name].severity] += count
    words = [counted(count, severity) for severity, count in totals.items() if count]
    yield Text(f"Findings  ({', '.join(words)})", style="bold")
    for name, count in findings.counts.items():
        kind = KINDS[name]
        line = (
            Text("  ")
            .append(f"{kind.severity}: {kind.title}", style=SEVERITY_STYLES[kind.severity])
            .append(f"  {count:,}")
        )
        yield line.append(f"  → {kind.remedy}{' (--fix FILE does this)' if kind.repaired else ''}", style="dim")
        kept = findings.of_kind(name)
        shown = 0
        for seen, equal in _grouped(kept)[:PLACES_SHOWN]:
            shown += len(equal)
            places = [str(finding.place) for finding in equal if finding.place is not None]
            where = ", ".join(places[:PLACES_SHOWN]) + (" …" if len(places) > PLACES_SHOWN else "")
            more = f" ({len(equal):,} times)" if len(equal) > 1 else ""
            yield Text(f"      {plain(f'{where}: {seen}' if where else seen)}{more}")
        if count > shown:
            yield Text(f"      … and {count - shown:,} more", style="dim")


def _grouped(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Return findings by what was seen, each text once."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.seen, []).append(finding)
    return list(groups.items())
