"""What a worker does with a chunk: parse, read as a conversation, encode, pack.

A function of the chunk and plain settings, so that it runs in this process or in another with the same result.
Questionable on purpose: a row that cannot be used is an entry in the result, and only with ``stop`` an error, because the
ledger must name every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from instil.encoding.weights import scale_weights
from instil.errors import DataError, FormatError, InstilError, TemplateError
from instil.preparation.chunks import Chunk
from instil.preparation.split import content_hash, is_candidate
from instil.preparation.store import pack, trained_tokens

NOTHING_TRAINED = "no trained token"
TOO_LONG = "too long"


class Encoder(Protocol):
    """The part of `ChatTokenizer` that preparation needs."""

    def encode_many(self, conversations: Iterable[Conversation]) -> Iterator[list[Example] | Exception]:
        """Give each conversation's examples, or why it has none."""
        ...


@dataclass(frozen=True, slots=True)
class SourceWork:
    """How the rows of one source are handled.

    Attributes:
        format: Format, or ``auto``.
        options: How rows are read.
        weight: Factor of every token's weight.
        candidate_share: Rows whose hash falls into this share are kept as conversations, for evaluation.
    """

    format: str
    options: ReadOptions
    weight: float
    candidate_share: float


@dataclass(frozen=True, slots=True)
class Work:
    """Settings of the work on every chunk.

    Attributes:
        sources: One for each source, in order.
        on_bad_row: Whether a row that cannot be used is an error.
        needs_assistant: Whether a conversation without an assistant turn cannot be used.
        split_reasoning: Whether reasoning inside answers is moved out, so that it is counted.
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
        reason: The ledger's word.
        message: What was said.
    """

    row: int
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk's result; arrays have one element a row, or one an example.

    Attributes:
        chunk: The chunk without its rows.
        batch: Packed examples in the order of the rows.
        hashes: Content hash of each row; 0 where it could not be read.
        num_conversations: Conversations of each row that gave examples.
        conversation_tokens: Tokens of each row's conversations, longest example each.
        example_rows: Row of each example, as a position in the chunk.
        trained_tokens: Trained tokens of each example.
        formats: Format that each row was read as, or an empty string.
        failures: What was left out.
        inline_reasoning: Rows whose answers carry reasoning in their text.
        misspelt: Rows with a key that nothing reads, the key, and the name that it resembles.
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
    misspelt: tuple[tuple[int, str, str], ...]
    candidates: tuple[tuple[int, list[dict[str, Any]]], ...]
    report: dict[str, int]


def work_on(chunk: Chunk, encoder: Encoder, work: Work) -> Done:
    """Turn a chunk of raw rows into packed examples and an account of each row.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first row that cannot be used.
    """
    return encode_rows(ReadRows(chunk, work), encoder)


def encode_rows(rows: ReadRows, encoder: Encoder) -> Done:
    """Encode and pack the conversations of rows that are read.

    Raises:
        InstilError: With ``on_bad_row: stop``, the first conversation that the encoder refuses.
    """
    chunk, source = rows.chunk, rows.source
    before = _counts(encoder)
    conversations = [conversation for _, conversation in rows.conversations]
    num_rows = len(chunk.rows)
    num_conversations = np.zeros(num_rows, dtype=np.int32)
    conversation_tokens = np.zeros(num_rows, dtype=np.int64)
    examples: list[Example] = []
    example_rows: list[int] = []
    for (row, conversation), given in zip(rows.conversations, encoder.encode_many(conversations), strict=True):
        if isinstance(given, Exception):
            rows.refuse(row, given, conversation)
            continue
        weighted = [scale_weights(example, source.weight) for example in given]
        kept = [example for example in weighted if _is_trained(example)]
        if not kept:
            rows.failures.append(
                Failure(row, TOO_LONG if not given and _asks_for_training(conversation) else NOTHING_TRAINED)
            )
            continue
        examples += kept
        example_rows += [row] * len(kept)
        num_conversations[row] += 1
        lengths = [len(example.token_ids) for example in kept]
        conversation_tokens[row] += sum(lengths) if kept[0].shortened == "split" else max(lengths)
    after = _counts(encoder)
    batch = pack(examples)
    return Done(
        replace(chunk, rows=()),
        batch,
        np.array(rows.hashes, dtype=np.uint64),
        num_conversations,
        conversation_tokens,
        np.array(example_rows, dtype=np.int32),
        trained_tokens(batch),
        tuple(rows.formats),
        tuple(rows.failures),
        tuple(rows.inline_reasoning),
        tuple(rows.misspelt),
        tuple(rows.candidates),
        {name: count - before.get(name, 0) for name, count in after.items()},
    )


class ReadRows:
    """The rows of a chunk as they are read: conversations, hashes and what failed."""

    def __init__(self, chunk: Chunk, work: Work) -> None:
        """Read every row of a chunk.

        Raises:
            DataError: With ``on_bad_row: stop``, the first row that cannot be read.
        """
        source = work.sources[chunk.source]
        self.chunk, self.source, self._work = chunk, source, work
        self.conversations: list[tuple[int, Conversation]] = []
        self.hashes: list[int] = []
        self.formats: list[str] = []
        self.failures: list[Failure] = []
        self.inline_reasoning: list[int] = []
        self.misspelt: list[tuple[int, str, str]] = []
        self.candidates: list[tuple[int, list[dict[str, Any]]]] = []
        for row, (place, raw) in enumerate(zip(chunk.places, chunk.rows, strict=True)):
            try:
                name, read = read_row(parse_row(raw, place), place, format_name=source.format, options=source.options)
                usable = [conversation for conversation in read if self._has_answer(row, conversation)]
            except DataError as error:
                self._fail(row, error)
                self.hashes.append(0)
                self.formats.append("")
                continue
            self._take(row, name, read, usable)

    def _take(self, row: int, name: str, read: Sequence[Conversation], usable: list[Conversation]) -> None:
        row_hash = content_hash(read)
        self.hashes.append(row_hash)
        self.formats.append(name)
        self.conversations += [(row, conversation) for conversation in usable]
        if self._work.split_reasoning and any(map(_has_inline_reasoning, usable)):
            self.inline_reasoning.append(row)
        self.misspelt += [(row, key, meant) for key, meant in sorted(misspelt_in(usable))]
        if is_candidate(row_hash, self.source.candidate_share):
            self.candidates.append((row, [_with_place(conversation) for conversation in usable]))

    def _has_answer(self, row: int, conversation: Conversation) -> bool:
        if not self._work.needs_assistant or any(message.role == "assistant" for message in conversation.messages):
            return True
        error = DataError(
            f"{conversation.place}: has no assistant turn; expected at least one to learn from; remove the row, "
            "or leave such rows out with data.on_bad_row: skip"
        )
        self._fail(row, error, reason="no assistant turn")
        return False

    def refuse(self, row: int, error: Exception, conversation: Conversation) -> None:
        """Account for a conversation that the encoder refused."""
        if not isinstance(error, InstilError):
            raise error
        place = str(conversation.place)
        said = str(error).removeprefix(f"{place}: ")
        if isinstance(error, TemplateError):
            said = (
                f"the template refuses it ({said}); expected turns that it takes; mend the row, choose another "
                "model.template, or leave such rows out with data.on_bad_row: skip"
            )
        error = type(error)(f"{place}: {said}")
        self._fail(
            row, error, reason="template refuses it" if isinstance(error, TemplateError) else "refused by encoder"
        )

    def _fail(self, row: int, error: InstilError, *, reason: str = "") -> None:
        if self._work.on_bad_row == "stop":
            raise error
        reason = reason or ("unknown format" if isinstance(error, FormatError) else "unreadable")
        self.failures.append(Failure(row, reason, str(error)))


def _is_trained(example: Example) -> bool:
    return bool(example.weights.any() if isinstance(example.weights, np.ndarray) else any(example.weights))


def _asks_for_training(conversation: Conversation) -> bool:
    """Tell whether a conversation without examples can only have lost them to its length."""
    answers = [
        message
        for number, message in enumerate(conversation.messages)
        if message.role == "assistant" and (number or conversation.plain)
    ]
    return any(message.weight != 0 for message in answers)


def _has_inline_reasoning(conversation: Conversation) -> bool:
    return not conversation.plain and any(
        message.role == "assistant" and isinstance(message.content, str) and carries_reasoning(message.content)
        for message in conversation.messages
    )


def _with_place(conversation: Conversation) -> dict[str, Any]:
    """Give a conversation as a row of the messages format, and where it came from."""
    place = conversation.place
    bare = replace(conversation, extra={})
    where = None if place is None else [place.source, place.row, place.part]
    return {"place": where, "conversation": conversation_to_dict(bare)}


def _counts(encoder: Encoder) -> dict[str, int]:
    """Take the encoder's own counts, where it keeps some."""
    report = getattr(encoder, "report", None)
    return dict(report.as_dict()) if report is not None else {}
