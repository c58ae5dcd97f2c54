"""Rows as they are shown: the examples of a row, every token with text, weight and origin, and the findings.

`report` prints them, `page` puts them on the mask page, `instil inspect --row` shows one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from instil.conversation import ROWS, Place
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import DataError, DroppedTextError, InstilError
from instil.inspection.doctor import Doctor
from instil.inspection.findings import KINDS, Finding
from instil.inspection.shown_examples import ShownExample, parts_of
from instil.inspection.shown_sides import show_sides
from instil.inspection.survey import KeptRow, find_sources, source_work
from instil.inspection.too_long import LEFT_OUT, too_long_words, without_limit
from instil.preparation.chunks import Chunk, Input, cut
from instil.recipe import Recipe, reading_of, source_name
from instil.units import counted
from instil.views.html import frame, left_out, warnings
from instil.views.turns import one_line

_MOST_EXAMPLES = 5
"""Examples of one row that a notebook shows."""


@dataclass(frozen=True, slots=True, repr=False)
class ShownRow:
    """One row of the data.

    Attributes:
        place: Its place.
        examples: Its examples; empty if the row was refused.
        findings: The findings about it.
    """

    place: Place
    examples: tuple[ShownExample, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """Its place; for a row from Python also its number, which counts from 1."""
        return f"{self.place}, row {self.place.row}" if self.place.source == ROWS else str(self.place)

    def __repr__(self) -> str:
        """Return place, examples and findings, on one line."""
        kinds = [finding.kind for finding in self.findings]
        return one_line("ShownRow", [self.name, *(example.counts for example in self.examples), *kinds])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the findings, and the masks of the first examples."""
        found = [_in_words(finding) for finding in self.findings]
        parts = list(parts_of(self.examples))
        masks = "".join(part._repr_html_() for part in parts[:_MOST_EXAMPLES])
        more = len(parts) - _MOST_EXAMPLES
        body = warnings(found) + masks + (left_out(f"{more:,} further examples not shown") if more > 0 else "")
        return frame("Row", facts=[self.name, counted(len(self.examples), "example")], body=body)


def _in_words(finding: Finding) -> str:
    """Return a finding for people, with one remedy."""
    kind = KINDS[finding.kind]
    remedy = "" if kind.reasoned else f" Remedy: {kind.remedy}"
    return f"{kind.title}: {finding.explanation}{remedy}"


def show_row(chat: ChatTokenizer, row: KeptRow, findings: Sequence[Finding]) -> ShownRow:
    """Encode a row and explain every token of it.

    Args:
        chat: Template, tokenizer and the encoder's settings.
        row: The row.
        findings: The findings about the row.

    Returns:
        The row. If it has no example, a finding gives the reason.
    """
    if row.reading != "sft":
        shown, reasons = show_sides(chat, row)
        known = {finding.kind for finding in findings} - _OF_PAIRS
        new = [reason for reason in reasons if reason.kind not in known and reason not in findings]
        return ShownRow(row.place, tuple(shown), (*findings, *new))
    examples: list[ShownExample] = []
    all_findings = list(findings)
    for conversation in row.conversations:
        roles = tuple(message.role for message in conversation.messages)
        try:
            explained = chat.explain(conversation)
            examples += [ShownExample(example.tokens, roles, example.example.shortened) for example in explained]
            dropped = dict.fromkeys(text for example in explained for text in example.example.dropped)
            if dropped and not any(finding.kind == "accepted_loss" for finding in all_findings):
                all_findings.append(Finding("accepted_loss", row.place, "; ".join(dropped)))
        except InstilError as error:
            kind = "dropped_text" if isinstance(error, DroppedTextError) else "refused"
            if not any(finding.kind in (kind, "rendered") for finding in all_findings):
                all_findings.append(Finding(kind, row.place, str(error).removeprefix(f"{row.place}: ")))
    limit = chat.settings.max_tokens
    if row.conversations and not examples:
        examples = [] if limit is None else _examples_over_limit(chat, row, limit)
        if _LEAVE_OUT.isdisjoint(finding.kind for finding in all_findings):
            all_findings.append(_why_no_example(row.place, examples, limit))
    return ShownRow(row.place, tuple(examples), tuple(all_findings))


_LEAVE_OUT = frozenset({"over_limit", "no_answer", "refused", "dropped_text", "rendered"})
"""Kinds of findings that say why a row has no example."""
_OF_PAIRS = frozenset({"no_pair"})
"""Kinds of findings that several pairs of one row may have, each with its own reason."""


def _why_no_example(place: Place, over_limit: Sequence[ShownExample], limit: int | None) -> Finding:
    """Return the reason why a row has no example: its length, or no trained token."""
    if limit is None or not over_limit:
        return Finding("no_answer", place, "no token in it is trained")
    longest = max(len(example.tokens) for example in over_limit)
    return Finding("over_limit", place, too_long_words(longest, limit=limit, how=LEFT_OUT))


def _examples_over_limit(chat: ChatTokenizer, row: KeptRow, limit: int) -> list[ShownExample]:
    """Return the examples of a row that was left out for its length, as they would be without the limit."""
    unlimited, shown = without_limit(chat), []
    for conversation in row.conversations:
        roles = tuple(message.role for message in conversation.messages)
        try:
            explained = unlimited.explain(conversation)
        except InstilError:  # refused for another reason, which is a finding
            continue
        shown += [ShownExample(each.tokens, roles, limit=limit) for each in explained]
    return shown


_INDEX = re.compile(r"(.+)\[(\d{1,12})\](?: \(line \d+\))?")


def find_row(recipe: Recipe, chat: ChatTokenizer, row_or_place: str) -> ShownRow:
    """Find one row of the data, and show it with the findings about this row alone.

    Args:
        recipe: Only its `data` settings count.
        chat: Template, tokenizer and the encoder's settings.
        row_or_place: The row's number, from 1 (``412``), or a place (``train.jsonl:412``, ``train.json[411]``).

    Raises:
        DataError: If there is no such row.
    """
    inputs = find_sources(recipe)
    source, _, number = row_or_place.rpartition(":")
    index = _INDEX.fullmatch(row_or_place)  # rows from memory and of a JSON array are counted from 0
    if index is not None:
        source, number = index[1], str(int(index[2]) + 1)
    if not number.isdigit() or number == "0":
        raise DataError(
            f"--row {row_or_place}: is not a row. Expected a row's number from 1, or a place. "
            "Write, for example, --row 412, --row train.jsonl:412 or --row 'train.json[411]'."
        )
    doctor = Doctor(
        stop_tokens=chat.stop_tokens, prints_reasoning=chat.takes_reasoning, read_rendered=chat.read_rendered
    )
    chunk = _find_chunk(inputs, source, int(number))
    if chunk is None:
        where = source or ", ".join(source_name(source_input.settings.path) for source_input in inputs)
        first = (
            "; its first row is line 2, behind the header" if number == "1" and where.endswith((".csv", ".tsv")) else ""
        )
        raise DataError(
            f"{where}: has no row {number}. Expected the number of a row (lines count from 1{first}). "
            "Choose another --row."
        )
    for place, conversations in doctor.examine(chunk, source_work(recipe, inputs[chunk.source])):
        row = KeptRow(place, conversations, reading_of(recipe.training.objective))
    return show_row(chat, row, list(doctor.findings))


def _find_chunk(inputs: Sequence[Input], source: str, number: int) -> Chunk | None:
    """Return a chunk with only the requested row."""
    for chunk in cut(inputs):
        for place, raw in zip(chunk.places, chunk.rows, strict=True):
            if place.row == number and (not source or place.source == source or place.source.endswith(f"/{source}")):
                return Chunk(chunk.source, (place,), (raw,))
    return None
