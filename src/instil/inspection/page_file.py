"""Writes the mask page of a survey: the rows that were kept, explained token by token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instil.conversation import Place
from instil.errors import DataError
from instil.files import write_text_atomic
from instil.inspection.findings import Finding, Findings
from instil.inspection.page import build_page
from instil.inspection.report import Subject, page_text
from instil.inspection.rows import ShownRow
from instil.inspection.shown import show_row
from instil.inspection.survey import Survey

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.encoding.proof import Proof

MAX_TOKENS = 2_000_000
"""Tokens on one page at most: beyond some 20 MB a browser needs seconds to open it."""


def write_page(path: Path, chat: ChatTokenizer, subject: Subject, survey: Survey, proof: Proof) -> str:
    """Write the page; it appears whole, or not at all.

    Args:
        path: The file; one that is there is replaced.
        chat: Template, tokenizer and the encoder's settings.
        subject: What was inspected.
        survey: What was found, with the rows that were kept.
        proof: The template's proof.

    Returns:
        What was written, for people: the file, its rows, and how many of all they are.

    Raises:
        DataError: If the file cannot be written.
    """
    rows = list(_rows(chat, survey))
    text = page_text(subject, survey, proof, num_shown=len(rows))
    try:
        write_text_atomic(path, build_page(rows, text))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and its rights"
        ) from None
    more = "" if len(rows) >= survey.ledger.rows_in else "; --html-rows N shows more"
    return f"wrote {path}: {text.facts[-1]}{more}"


def _rows(chat: ChatTokenizer, survey: Survey) -> Iterator[ShownRow]:
    """Explain the kept rows until the page is full."""
    by_place = _by_place(survey.findings)
    left = MAX_TOKENS
    for kept in survey.rows:
        row = show_row(chat, kept, by_place.get(kept.place, ()))
        left -= sum(len(example.tokens) for example in row.examples)
        if left < 0:
            return
        yield row


def _by_place(findings: Findings) -> dict[Place, list[Finding]]:
    found: dict[Place, list[Finding]] = {}
    for finding in findings:
        if finding.place is not None:
            found.setdefault(finding.place, []).append(finding)
    return found
