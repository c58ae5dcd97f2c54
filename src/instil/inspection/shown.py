"""Turns conversations into rows to be shown: every token with its text, weight and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from instil.errors import DataError, InstilError
from instil.inspection.doctor import Doctor
from instil.inspection.findings import Finding
from instil.inspection.rows import ShownExample, ShownRow
from instil.inspection.survey import KeptRow, find_sources, reading_of
from instil.preparation.chunks import Chunk, Input, cut
from instil.recipe import Recipe

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


def show_row(chat: ChatTokenizer, row: KeptRow, findings: Sequence[Finding]) -> ShownRow:
    """Encode a row and explain every token of it.

    Args:
        chat: Template, tokenizer and the encoder's settings.
        row: The row.
        findings: What was found in it.

    Returns:
        The row; without examples, and with a finding that says why, where it is refused.
    """
    examples: list[ShownExample] = []
    found = list(findings)
    for conversation in row.conversations:
        roles = tuple(message.role for message in conversation.messages)
        try:
            examples += [
                ShownExample(each.tokens, roles, each.example.shortened) for each in chat.explain(conversation)
            ]
        except InstilError as error:
            if not any(finding.kind == "refused" for finding in found):
                found.append(Finding("refused", row.place, str(error).removeprefix(f"{row.place}: ")))
    if row.conversations and not examples and not found:
        found.append(_why_nothing(chat, row))
    return ShownRow(row.place, tuple(examples), tuple(found))


def _why_nothing(chat: ChatTokenizer, row: KeptRow) -> Finding:
    """Say why a row that is neither refused nor ill has no example."""
    limit = chat.settings.max_tokens
    unlimited = chat.with_settings(replace(chat.settings, max_tokens=None))
    lengths = [len(each.token_ids) for given in row.conversations for each in unlimited.encode(given)]
    if limit is None or not lengths:
        return Finding("no_answer", row.place, "no token in it is trained")
    return Finding("over_limit", row.place, f"left out: {max(lengths):,} tokens, at most {limit:,} are allowed")


def find_row(recipe: Recipe, chat: ChatTokenizer, wanted: str) -> ShownRow:
    """Find one row of the data, and show it with what the doctor says about it alone.

    Args:
        recipe: Its `data` settings count.
        chat: Template, tokenizer and the encoder's settings.
        wanted: The row's number as places have it (``412``), or a place (``train.jsonl:412``).

    Raises:
        DataError: If there is no such row.
    """
    inputs = find_sources(recipe)
    source, _, number = wanted.rpartition(":")
    if not number.isdigit() or number == "0":
        raise DataError(f"--row {wanted}: expected a row's number from 1, or a place such as train.jsonl:412")
    doctor = Doctor(stop_tokens=chat.stop_tokens, prints_reasoning=chat.takes_reasoning)
    chunk = _find_chunk(inputs, source, int(number))
    if chunk is None:
        where = source or ", ".join(found.settings.path for found in inputs)
        raise DataError(
            f"{where}: has no row {number}; expected the number of a row (lines count from 1); choose another"
        )
    for place, conversations in doctor.examine(chunk, reading_of(recipe, inputs[chunk.source])):
        row = KeptRow(place, conversations)
    return show_row(chat, row, list(doctor.findings))


def _find_chunk(inputs: Sequence[Input], source: str, number: int) -> Chunk | None:
    """Give a chunk of the one row that is wanted."""
    for chunk in cut(inputs):
        for place, raw in zip(chunk.places, chunk.rows, strict=True):
            if place.row == number and (not source or place.source == source or place.source.endswith(f"/{source}")):
                return Chunk(chunk.source, (place,), (raw,))
    return None
