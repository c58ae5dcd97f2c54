"""Write the mask page of a survey: its kept rows, every token explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from instil.conversation import Place
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.proof import Proof
from instil.errors import DataError
from instil.files import write_text_atomic
from instil.inspection.findings import Finding, Findings
from instil.inspection.page import build_page
from instil.inspection.report import Subject, page_text
from instil.inspection.shown_rows import ShownRow, show_row
from instil.inspection.survey import Survey
from instil.refused_writes import refused_writes

MAX_TOKENS = 2_000_000
"""Largest number of tokens on one page. A browser needs seconds to open more than about 20 MB."""


def write_page(path: Path, chat: ChatTokenizer, subject: Subject, survey: Survey, proof: Proof) -> str:
    """Write the page, complete or not at all.

    Args:
        path: The file. An existing one is replaced.
        chat: Template, tokenizer and the encoder's settings.
        subject: What was inspected.
        survey: The findings and the kept rows.
        proof: The template's proof.

    Returns:
        A line for people: the file, and how many of all rows it shows.

    Raises:
        DataError: If the file cannot be written.
    """
    rows = list(_rows(chat, survey))
    text = page_text(subject, survey, proof, num_shown=len(rows))
    with refused_writes(path, raises=DataError, otherwise="choose another file for --html"):
        write_text_atomic(path, build_page(rows, text))
    more = "" if len(rows) >= survey.ledger.rows_in else "; --html-rows N shows more"
    return f"wrote {path}: {text.facts[-1]}{more}"


def _rows(chat: ChatTokenizer, survey: Survey) -> Iterator[ShownRow]:
    """Yield the kept rows, explained, until the page is full."""
    by_place = _by_place(survey.findings)
    left = MAX_TOKENS
    for kept in survey.rows:
        row = show_row(chat, kept, by_place.get(kept.place, ()))
        left -= sum(len(example.tokens) for example in row.examples)
        if left < 0:
            return
        yield row


def _by_place(findings: Findings) -> dict[Place, list[Finding]]:
    by_place: dict[Place, list[Finding]] = {}
    for finding in findings:
        if finding.place is not None:
            by_place.setdefault(finding.place, []).append(finding)
    return by_place
