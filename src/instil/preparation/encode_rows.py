"""Turn one chunk of raw rows into encoded examples and an account of each row.

A worker process calls `encode_chunk`; without worker processes, `workers` calls `read_rows` and `encode_rows`, so that
reading and encoding overlap. It parses the rows, reads them as conversations, encodes
and packs them. The result depends only on the chunk and plain settings.

Why: a row that cannot be used is an entry in the result, because the ledger names every such row. It is an error only
with ``on_bad_row: stop``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instil.conversation import Conversation, Example
from instil.data.formats.misspelt_keys import misspelt_in
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.messages import conversation_to_dict
from instil.data.sources.rows import parse_row
from instil.encoding.turns.inline_reasoning import carries_reasoning
from instil.encoding.turns.rendered_rows import RenderedRow, shows_headers
from instil.encoding.weights import is_trained, scale_weights
from instil.errors import DataError, DroppedTextError, FormatError, InstilError, NoPairError, TemplateError
from instil.preparation.chunks import Chunk
from instil.preparation.encode_pairs import (
    NO_PAIR,
    NOTHING_TRAINED,
    LeftOut,
    PairEncoder,
    Unit,
    encode_units,
    no_example,
    only_answer,
    units_of,
)
from instil.preparation.split import content_hash, is_candidate
from instil.preparation.store import pack, trained_tokens
from instil.recipe import Reading

NO_ASSISTANT = "no assistant turn"
TEMPLATE_REFUSED = "template refuses it"
ENCODER_REFUSED = "refused by encoder"
RENDERED = "already rendered"
TEXT_DROPPED = "template drops text"


class Encoder(PairEncoder, Protocol):
    """The part of `ChatTokenizer` that preparation needs."""

    def read_rendered(self, conversation: Conversation, /) -> tuple[Conversation, RenderedRow | None]:
        """Return a conversation, read back into messages if its text is rendered already, and how it was."""
        ...


@dataclass(frozen=True, slots=True)
class SourceWork:
    """Settings of the rows of one source.

    Attributes:
        format: Format, or ``auto``.
        options: Options of the format.
        weight: Factor of every token's weight.
        candidate_share: Rows whose hash falls into this share are kept as conversations, for evaluation.
    """

    format: str
    options: ReadOptions
    weight: float
    candidate_share: float


@dataclass(frozen=True, slots=True)
class Work:
    """Settings for every chunk.

    Attributes:
        sources: Settings of each source, in order.
        on_bad_row: Whether a row that cannot be used is an error.
        needs_assistant: Whether a conversation needs an assistant turn to be used.
        split_reasoning: Whether reasoning is moved out of the text of answers. If so, it is counted.
    """

    sources: tuple[SourceWork, ...]
    on_bad_row: Literal["stop", "skip"] = "stop"
    needs_assistant: bool = True
    split_reasoning: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row, or one conversation of it, is left out.

    Attributes:
        row: Position of the row in its chunk.
        reason: The reason in the ledger's words.
        message: The error's message.
    """

    row: int
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """The result of a chunk; arrays have one element per row, or one per example.

    Attributes:
        chunk: The chunk without its rows.
        batch: Packed examples in the order of the rows.
        hashes: Content hash of each row; 0 where it could not be read.
        num_conversations: Number of conversations of each row that gave examples.
        conversation_tokens: Tokens of each row's conversations. A conversation counts with its longest example.
        example_rows: Row of each example, as a position in the chunk.
        trained_tokens: Number of trained tokens of each example.
        formats: Format of each row, or an empty string where it could not be read.
        failures: Rows and conversations left out.
        inline_reasoning: Rows with reasoning in the text of an answer.
        part_weights: Rows with weights of parts of an answer.
        rendered: Rows whose rendered text was read back into messages, and the template that prints it.
        misspelt: Rows with a key that is not read, the key, and the known key that it resembles.
        dropped_text: Rows trained without a text that the template does not print, and the texts, for people.
        candidates: Rows that may be held out, with their conversations as JSON values.
        report: The encoder's own counts for this chunk, by name.
    """

    chunk: Chunk
    batch: pa.RecordBatch
    hashes: npt.NDArray[np.uint64]
    num_conversations: npt.NDArray[np.int32]
    conversation_tokens: npt.NDArray[np.int64]
    example_rows: npt.NDArray[np.int32]
    trained_tokens: npt.NDArray[np.int32]
    formats: tuple[str, ...]
    failures: tuple[Failure, ...]
    inline_reasoning: tuple[int, ...]
    part_weights: tuple[int, ...]
    rendered: tuple[tuple[int, str], ...]
    misspelt: tuple[tuple[int, str, str], ...]
    dropped_text: tuple[tuple[int, tuple[str, ...]], ...]
    candidates: tuple[tuple[int, list[dict[str, Any]]], ...]
    report: dict[str, int]


@dataclass(slots=True)
class ReadRows:
    """The rows of a chunk after reading and before encoding; encoding adds its failures.

    Attributes:
        chunk: The chunk.
        source: Settings of its source.
        work: Settings for every chunk.
        units: Usable conversations, each with the position of its row in the chunk; both sides of a pair together.
        hashes: As in `EncodedChunk`; so are the fields below.
    """

    chunk: Chunk
    source: SourceWork
    work: Work
    units: list[tuple[int, Unit]] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    inline_reasoning: list[int] = field(default_factory=list)
    part_weights: list[int] = field(default_factory=list)
    rendered: list[tuple[int, str]] = field(default_factory=list)
    misspelt: list[tuple[int, str, str]] = field(default_factory=list)
    candidates: list[tuple[int, list[dict[str, Any]]]] = field(default_factory=list)

    @property
    def reading(self) -> Reading:
        """How rows are read: answers to imitate, pairs or judged answers."""
        return self.source.options.reading

    def take(self, row: int, format_name: str, conversations: Sequence[Conversation]) -> None:
        """Add a row that was read; conversations without an assistant turn become failures where one is needed."""
        # Rendered text may hold answers that are not seen yet; see `_read_rendered`.
        units = [
            unit
            for unit in units_of(conversations, self.reading)
            if all(shows_headers(one) or self.has_answer(row, one) for one in unit)
        ]
        usable = [conversation for unit in units for conversation in unit]
        row_hash = content_hash(conversations)
        self.hashes.append(row_hash)
        self.formats.append(format_name)
        self.units += [(row, unit) for unit in units]
        if self.work.split_reasoning and any(map(_has_inline_reasoning, usable)):
            self.inline_reasoning.append(row)
        if any(message.part_weights for conversation in usable for message in conversation.messages):
            self.part_weights.append(row)
        self.misspelt += [(row, key, meant) for key, meant in sorted(misspelt_in(usable))]
        if is_candidate(row_hash, self.source.candidate_share):
            self.candidates.append((row, _to_answer(usable)))

    def take_unreadable(self, row: int, error: DataError, *, reason: str) -> None:
        """Add a row that cannot be read. One without a better answer is no fault of the row, so it is only counted.

        Raises:
            DataError: The error itself, with ``on_bad_row: stop``.
        """
        if reason == NO_PAIR:
            self.leave_out(row, LeftOut(NO_PAIR, str(error)))
        else:
            self.fail(row, error, reason=reason)
        self.hashes.append(0)
        self.formats.append("")

    def fail(self, row: int, error: InstilError, *, reason: str) -> None:
        """Add a failure, or raise its error with ``on_bad_row: stop``."""
        if self.work.on_bad_row == "stop":
            raise error
        self.failures.append(Failure(row, reason, str(error)))

    def leave_out(self, row: int, left_out: LeftOut) -> None:
        """Add why a row's conversations are not used, or raise it where that is an error with ``on_bad_row: stop``."""
        if left_out.stops:
            self.fail(row, DataError(left_out.message), reason=left_out.reason)
        else:
            self.failures.append(Failure(row, left_out.reason, left_out.message))

    def has_answer(self, row: int, conversation: Conversation) -> bool:
        """Return whether a conversation has the assistant turn that it needs; if not, it becomes a failure."""
        if not self.work.needs_assistant or any(message.role == "assistant" for message in conversation.messages):
            return True
        error = DataError(
            f"{conversation.place}: has no assistant turn. Expected at least one to learn from. Remove the row, "
            "or leave such rows out with data.on_bad_row: skip."
        )
        self.fail(row, error, reason=NO_ASSISTANT)
        return False


def encode_chunk(chunk: Chunk, encoder: Encoder, work: Work) -> EncodedChunk:
    """Turn a chunk of raw rows into packed examples and an account of each row.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first row that cannot be used.
    """
    return encode_rows(read_rows(chunk, work), encoder)


def read_rows(chunk: Chunk, work: Work) -> ReadRows:
    """Parse every row of a chunk and read it as conversations.

    Raises:
        DataError: With ``on_bad_row: stop``, the first row that cannot be read.
    """
    source = work.sources[chunk.source]
    rows = ReadRows(chunk, source, work)
    for row, (place, raw) in enumerate(zip(chunk.places, chunk.rows, strict=True)):
        try:
            parsed = parse_row(raw, place)
            format_name, conversations = read_row(parsed, place, format_name=source.format, options=source.options)
        except NoPairError as error:
            rows.take_unreadable(row, error, reason=NO_PAIR)
        except DataError as error:
            rows.take_unreadable(
                row, error, reason="unknown format" if isinstance(error, FormatError) else "unreadable"
            )
        else:
            rows.take(row, format_name, conversations)
    return rows


def encode_rows(rows: ReadRows, encoder: Encoder) -> EncodedChunk:
    """Encode and pack the conversations of rows that were read.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first conversation that the encoder refuses.
    """
    _read_rendered(rows, encoder)
    before = _counts(encoder)
    num_conversations = np.zeros(len(rows.chunk.rows), dtype=np.int32)
    conversation_tokens = np.zeros(len(rows.chunk.rows), dtype=np.int64)
    examples: list[Example] = []
    example_rows: list[int] = []
    dropped_text: list[tuple[int, tuple[str, ...]]] = []
    outcomes = encode_units([unit for _, unit in rows.units], encoder, rows.reading)
    for (row, unit), (conversation, outcome) in zip(rows.units, outcomes, strict=True):
        if isinstance(outcome, Exception):
            _refuse(rows, row, outcome, conversation)
            continue
        if isinstance(outcome, LeftOut):
            rows.leave_out(row, outcome)
            continue
        weighted = [scale_weights(example, rows.source.weight) for example in outcome]
        trained = [example for example in weighted if is_trained(example)]
        if not trained:
            rows.leave_out(row, LeftOut(NOTHING_TRAINED) if outcome else no_example(conversation))
            continue
        if trained[0].dropped:
            dropped_text.append((row, trained[0].dropped))
        examples += trained
        example_rows += [row] * len(trained)
        num_conversations[row] += len(unit)
        # Pieces of one text add up, and so do both sides of a pair. Examples of one conversation repeat its beginning,
        # so the longest counts.
        lengths = [len(example.token_ids) for example in trained]
        adds_up = trained[0].shortened == "split" or len(unit) > 1
        conversation_tokens[row] += sum(lengths) if adds_up else max(lengths)
    batch = pack(examples)
    return EncodedChunk(
        chunk=replace(rows.chunk, rows=()),
        batch=batch,
        hashes=np.array(rows.hashes, dtype=np.uint64),
        num_conversations=num_conversations,
        conversation_tokens=conversation_tokens,
        example_rows=np.array(example_rows, dtype=np.int32),
        trained_tokens=trained_tokens(batch),
        formats=tuple(rows.formats),
        failures=tuple(rows.failures),
        inline_reasoning=tuple(rows.inline_reasoning),
        part_weights=tuple(rows.part_weights),
        rendered=tuple(rows.rendered),
        misspelt=tuple(rows.misspelt),
        dropped_text=tuple(dropped_text),
        candidates=tuple(rows.candidates),
        report={name: count - before.get(name, 0) for name, count in _counts(encoder).items()},
    )


def _read_rendered(rows: ReadRows, encoder: Encoder) -> None:
    """Read back the conversations whose text is rendered already.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first that cannot be read back exactly.
    """
    kept: list[tuple[int, Unit]] = []
    read: dict[int, list[Conversation]] = {}
    for row, unit in rows.units:
        try:
            outcomes = [encoder.read_rendered(conversation) for conversation in unit]
        except InstilError as error:
            rows.fail(row, error, reason=RENDERED)
            read.setdefault(row, [])
            continue
        how = next((how.how for _, how in outcomes if how is not None), None)
        if how is not None:
            rows.rendered.append((row, how))
            read.setdefault(row, [])
        messages = tuple(
            only_answer(replace(one, side=before.side)) if how is not None and before.side else one
            for before, (one, how) in zip(unit, outcomes, strict=True)
        )
        answers = zip(unit, messages, strict=True)
        if not all(rows.has_answer(row, one) for before, one in answers if shows_headers(before)):
            read.setdefault(row, [])
            continue
        if row in read:
            read[row] += messages
        kept.append((row, messages))
    if read:
        rows.units = kept
        # Held-out conversations are answered by the model, so they are messages too.
        rows.candidates = [(row, _to_answer(read[row]) if row in read else saved) for row, saved in rows.candidates]


def _refuse(rows: ReadRows, row: int, error: Exception, conversation: Conversation) -> None:
    """Add the failure of a conversation that the encoder refused; any other error is raised."""
    if not isinstance(error, InstilError):
        raise error
    place = str(conversation.place)
    message = str(error).removeprefix(f"{place}: ")
    if conversation.side is not None:
        message = f"the {conversation.side} answer: {message}"
    reason = TEXT_DROPPED if isinstance(error, DroppedTextError) else ENCODER_REFUSED
    if isinstance(error, TemplateError):
        reason = TEMPLATE_REFUSED
        message = (
            f"the template refuses it ({message.removesuffix('.')}). Expected turns that the template allows. "
            "Fix the row, choose another model.template, or leave such rows out with data.on_bad_row: skip."
        )
    rows.fail(row, type(error)(f"{place}: {message}"), reason=reason)


def _has_inline_reasoning(conversation: Conversation) -> bool:
    return not conversation.plain and any(
        message.role == "assistant" and isinstance(message.content, str) and carries_reasoning(message.content)
        for message in conversation.messages
    )


def _to_answer(conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """Return the conversations that the model is to answer, as JSON values: of preferences the good answers, once each.

    A row with several rejected answers has the chosen one several times.
    """
    rows: list[dict[str, Any]] = []
    for conversation in conversations:
        row = _with_place(conversation)
        is_again = conversation.side is not None and any(row["conversation"] == one["conversation"] for one in rows)
        if conversation.side != "rejected" and not is_again:
            rows.append(row)
    return rows


def _with_place(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a row of the messages format, with its place."""
    place = conversation.place
    bare = replace(conversation, extra={})
    where = None if place is None else [place.source, place.row, place.part, place.line]
    return {"place": where, "conversation": conversation_to_dict(bare)}


def _counts(encoder: Encoder) -> dict[str, int]:
    """Return the encoder's own counts, where it keeps some."""
    report = getattr(encoder, "report", None)
    return dict(report.as_dict()) if report is not None else {}
