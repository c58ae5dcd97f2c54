"""What the helper process for data answers: how rows are read, what the template does, rows as the model will see them.

It holds one chat tokenizer. Everything is done by the functions of `instil inspect`, so both show the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from instil.conversation import Place
from instil.data.formats.preferences.comparisons import COMPARING
from instil.data.formats.registry import FORMATS, read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.reading import SAMPLE_ROWS, detect_rows
from instil.data.sources.rows import parse_row
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.proof import proof_conversations
from instil.errors import DataError, InstilError
from instil.inspection.doctor import Doctor
from instil.inspection.findings import KINDS, Finding
from instil.inspection.fixed_file import diff_lines
from instil.inspection.inspection import Inspection
from instil.inspection.page import Packer
from instil.inspection.repair import repair_rows
from instil.inspection.shown_rows import show_row
from instil.inspection.survey import KeptRow
from instil.model.folder.location import locate_tokenizer
from instil.preparation.chat_setup import set_up_chat
from instil.preparation.chunks import Chunk
from instil.recipe import Objective, Reading, Recipe
from instil.studio.workers.reading import Row, Rows, rows_of
from instil.template.comparison import Side, compare_templates

FIX_ROWS, FIX_SECONDS = 20, 3.0
"""Changed rows that a preview of fixes shows, and how long it looks for them."""
_PURPOSES: Mapping[Reading, Objective] = {"sft": "sft", "pairs": "dpo", "judged": "kto"}
_SHOWN = 300


@dataclass
class Look:
    """A model with its template, and the data that were looked at last.

    Attributes:
        model: The settings of the recipe's section `model`.
    """

    model: Mapping[str, Any]
    _inspection: Inspection | None = None
    _rows: dict[str, Rows] = field(default_factory=dict)

    @property
    def inspection(self) -> Inspection:
        """Tokenizer and template, loaded once."""
        if self._inspection is None:
            recipe = Recipe.from_mapping({"model": dict(self.model)}, source="the studio")
            self._inspection = Inspection.of("", recipe)
        return self._inspection

    @property
    def chat(self) -> ChatTokenizer:
        """The tokenizer with its template."""
        return self.inspection.chat

    def answer(self, question: Mapping[str, Any]) -> Any:
        """Return the answer to a question, as JSON values.

        Raises:
            InstilError: If data or model are wrong.
        """
        does: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "format": self.format,
            "template": self.template,
            "rows": self.rows,
            "fixes": self.fixes,
        }
        return does[question["ask"]](question)

    def _data(self, question: Mapping[str, Any]) -> Rows:
        """Return the data of a question; the reader of the last data stays open."""
        key = question["key"]
        if key not in self._rows:
            self._rows = {key: rows_of(question["settings"])}
        return self._rows[key]

    def format(self, question: Mapping[str, Any]) -> Any:
        """Return the format of the first rows and why, every other reading with what it makes of them, and the columns."""
        data = self._data(question)
        sample = [(place, row) for _, place, row in islice(data.start_at(0), SAMPLE_ROWS)]
        if not sample:
            raise DataError("no row was found. Expected at least one. Check the file.")
        reading = data.options.reading
        detected = detect_rows(sample[0][0].source, iter(sample), reading=reading)
        parsed = [(place, parse_row(row, place)) for place, row in sample if not _is_broken(row, place)]
        columns = dict.fromkeys(str(name) for _, row in parsed if isinstance(row, dict) for name in row)
        used, reasons = _readable(parsed, data.work.format, data.options)
        return {
            "format": "pattern"
            if data.options.columns
            else data.work.format
            if data.work.format != "auto"
            else detected.format,
            "evidence": detected.evidence,
            "sampled": len(sample),
            "readable": used,
            "reasons": reasons,
            "columns": list(columns),
            "readings": [reading for reading in _readings(parsed) if reading["readable"]],
            "unreadable": [reading for reading in _readings(parsed) if not reading["readable"]],
        }

    def template(self, question: Mapping[str, Any]) -> Any:
        """Return what the template is, its proof, and where it differs from the model's own."""
        subject, proof = self.inspection.subject, self.chat.prove()
        return {
            "facts": subject.facts(),
            "notes": [*subject.notes, *(warning.text for warning in subject.warnings)],
            "passed": proof.passed,
            "proof": proof.lines(),
            "own": self._difference(),
        }

    def _difference(self) -> Any:
        """Return where the chosen template differs from the model's own; None where it is its own, or there is none."""
        if not self.model.get("template"):
            return None
        recipe = Recipe.from_mapping({"model": {"name": self.model["name"]}}, source="the studio")
        own = set_up_chat(recipe, locate_tokenizer(recipe.model.name))
        conversations = proof_conversations("")
        sides = (
            Side("own", own.chat.template, _encoder(own.chat)),
            Side("chosen", self.chat.template, _encoder(self.chat)),
        )
        differences = [found for found in compare_templates(*sides, conversations) if found is not None]
        return {
            "count": len(conversations),
            "has_own": not own.notes,
            "differences": [
                {"conversation": one.conversation, "found": one.found, "lines": list(one.lines)} for one in differences
            ],
        }

    def rows(self, question: Mapping[str, Any]) -> Any:
        """Return rows by position (``at``) or by place (``places``), with every token as the mask page packs it."""
        data = self._data(question)
        found = data.at(question["at"]) if "at" in question else data.at_places(question["places"])
        kinds = list(KINDS)
        pack = Packer(kinds)
        rows = [{"at": position, **packed} for position, packed in self._packed(found, data, pack)]
        return {"rows": rows, "pieces": list(pack.pieces), "fields": list(pack.fields), "kinds": kinds}

    def _packed(self, found: Sequence[Row], data: Rows, pack: Packer) -> list[tuple[int, dict[str, Any]]]:
        chat = self.chat
        doctor = Doctor(
            stop_tokens=chat.stop_tokens, prints_reasoning=chat.takes_reasoning, read_rendered=chat.read_rendered
        )
        chunk = Chunk(0, tuple(place for _, place, _ in found), tuple(row for _, _, row in found))
        kept = [KeptRow(*row, data.options.reading) for row in doctor.examine(chunk, data.work)]
        findings: dict[Place, list[Finding]] = {}
        # Not `finish`: what it adds needs all rows, and stands in the inspection of the whole file.
        for finding in doctor.findings:
            if finding.place is not None:
                findings.setdefault(finding.place, []).append(finding)
        shown = [show_row(chat, row, findings.get(row.place, ())) for row in kept]
        return [(position, pack.row(row)) for (position, _, _), row in zip(found, shown, strict=True)]

    def fixes(self, question: Mapping[str, Any]) -> Any:
        """Return the first rows that fixing changes, each as a diff, and how many rows were looked at."""
        data, end = self._data(question), time.monotonic() + FIX_SECONDS
        looked, changed = 0, []

        def read(row: Any, place: Place) -> Any:
            return read_row(row, place, format_name=data.work.format, options=data.options)[1]

        rows = ((place, row) for _, place, row in data.start_at(0))
        is_all = True
        for repair in repair_rows(
            rows,
            read=read,
            reading=data.options.reading,
            stop_tokens=self.chat.stop_tokens,
            read_rendered=self.chat.read_rendered,
        ):
            looked += 1
            if repair.changes:
                head, *lines = (line.plain for line in diff_lines(repair))
                changed.append({"head": head, "left_out": repair.after is None, "lines": lines})
            if len(changed) >= FIX_ROWS or time.monotonic() > end:
                is_all = False
                break
        return {"looked": looked, "is_all": is_all, "changed": changed}


def _is_broken(row: Any, place: Place) -> bool:
    try:
        parse_row(row, place)
    except DataError:
        return True
    return False


def _readable(rows: Sequence[tuple[Place, Any]], form: str, options: ReadOptions) -> tuple[int, list[str]]:
    """Return how many rows can be read in a format, and the first reason why one cannot."""
    count = 0
    reasons: list[str] = []
    for place, row in rows:
        try:
            count += bool(read_row(row, place, format_name=form, options=options)[1])
        except InstilError as error:
            reasons = reasons or [_shortened(str(error))]
    return count, reasons


def _shortened(text: str) -> str:
    """Return a text with its end left out where it is long, at a word.

    Example:
        >>> _shortened("a " * 200)[-5:]
        'a a …'
    """
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rpartition(' ')[0]} …"


def _readings(rows: Sequence[tuple[Place, Any]]) -> list[dict[str, Any]]:
    """Return every way to read rows, with how many of them it can read."""
    ways: list[tuple[Reading, str]] = [
        ("sft", form.name) for form in FORMATS if form.name not in ("pattern", "kto", "scored")
    ]
    ways += [(reading, "auto") for reading in ("pairs", "judged")]
    ways += [("pairs", form.name) for form in COMPARING]
    found = []
    for reading, form in ways:
        readable, reasons = _readable(rows, form, ReadOptions(reading=reading))
        found.append(
            {
                "format": form,
                "objective": _PURPOSES[reading],
                "readable": readable,
                "of": len(rows),
                "reason": reasons[0] if reasons else "",
            }
        )
    return found


def _encoder(chat: ChatTokenizer) -> Callable[[str], Sequence[int]]:
    return lambda text: chat.tokenizer(text, add_special_tokens=False)["input_ids"]
