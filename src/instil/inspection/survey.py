"""Survey the data in one pass: the ledger of training, the lengths of examples, and the findings of the doctor.

``instil inspect`` calls `survey`. Rows go through the functions of preparation (`encode_chunk`, `Account`), so the
ledger is training's, without held-out rows.

Why: bad rows never stop the survey, because its purpose is to find all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from instil.conversation import Conversation, Place
from instil.data.formats.pattern import check_columns
from instil.data.formats.row_format import ReadOptions
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import RecipeError
from instil.inspection.doctor import Doctor
from instil.inspection.findings import Finding, Findings
from instil.inspection.histogram import LengthHistogram, ShareHistogram
from instil.inspection.too_long import LEFT_OUT, SPLIT, longest_example, too_long_words
from instil.preparation.accounting import Account
from instil.preparation.arrow_columns import values_of
from instil.preparation.cache_key import cache_folder, check_folder
from instil.preparation.chunks import Input, cut, draw_rows, find_input, rows_read
from instil.preparation.data_warnings import data_warnings
from instil.preparation.encode_pairs import NO_PAIRS, NOTHING_TRAINED, TOO_LONG
from instil.preparation.encode_rows import (
    ENCODER_REFUSED,
    TEMPLATE_REFUSED,
    TEXT_DROPPED,
    EncodedChunk,
    SourceWork,
    Work,
    encode_chunk,
)
from instil.preparation.ledger import Ledger
from instil.recipe import Reading, Recipe, reading_of
from instil.run_warning import RunWarning
from instil.units import counted

FACTOR_LIMIT = 3.0
"""A larger token factor is a finding."""
FEWEST_TOKENS = 3
"""A chosen answer with fewer, its stop token included, is a finding."""
_REFUSED = (TEMPLATE_REFUSED, ENCODER_REFUSED)


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row that is kept to be shown.

    Attributes:
        place: Its place.
        conversations: Its conversations; empty if it cannot be read.
        reading: How it was read: an answer to imitate, pairs, or judged answers.
    """

    place: Place
    conversations: tuple[Conversation, ...]
    reading: Reading = "sft"


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of one pass over the data.

    Attributes:
        inputs: The sources.
        ledger: The account of the rows.
        lengths: Tokens of each example.
        shares: Trained share of each example's tokens.
        answer_lengths: Trained tokens of each example.
        findings: The findings.
        rows: Rows kept to be shown, in the order of the data.
        notes: Notes about the survey itself.
        warnings: What is probably wrong with the data as a whole.
        chosen_lengths: Of preference data, trained tokens of each chosen answer, or of each judged good.
        rejected_lengths: Of preference data, trained tokens of each rejected answer, or of each judged bad.
    """

    inputs: Sequence[Input]
    ledger: Ledger
    lengths: LengthHistogram
    shares: ShareHistogram
    answer_lengths: LengthHistogram
    findings: Findings
    rows: Sequence[KeptRow] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[RunWarning] = ()
    chosen_lengths: LengthHistogram = field(default_factory=LengthHistogram)
    rejected_lengths: LengthHistogram = field(default_factory=LengthHistogram)


def find_sources(recipe: Recipe) -> list[Input]:
    """Find the files of a recipe's sources, and draw rows where the recipe limits their number.

    Raises:
        RecipeError: If it names no source.
        DataError: If there is no such data.
    """
    if not recipe.data.sources:
        raise RecipeError("data.sources: found none. Expected at least one file, folder, glob or Hub id. Name one.")
    spool = cache_folder(recipe)
    if any(source.path == "-" for source in recipe.data.sources):
        check_folder(spool)
    inputs = [find_input(source, heldout=False, spool=spool) for source in recipe.data.sources]
    for source in inputs:
        if source.settings.columns or source.settings.format == "pattern":
            check_columns(source.settings.columns)
    return [draw_rows(source, seed=recipe.training.seed + number) for number, source in enumerate(inputs)]


def source_work(recipe: Recipe, source: Input) -> SourceWork:
    """Return the settings for reading the rows of a source."""
    data, reading = recipe.data, reading_of(recipe.training.objective)
    options = ReadOptions(source.settings.columns, data.prompt_completion, reading, data.rejected)
    share = 1.0 if source.heldout else 0.0  # all rows of a held-out file may be held out
    return SourceWork(source.settings.format, options, float(source.settings.weight), share)


def survey(
    recipe: Recipe,
    chat: ChatTokenizer,
    *,
    keep_rows: int = 0,
    trains: bool = False,
) -> Survey:
    """Read, encode and examine every row of a recipe's sources.

    Args:
        recipe: Only its `data` settings and its objective count.
        chat: Template, tokenizer and the encoder's settings.
        keep_rows: Number of rows to keep for showing: those with findings first, then the first of the data.
        trains: Whether the recipe is one to train with, whose share of held-out rows counts too.

    Raises:
        RecipeError: If the recipe names no data.
        DataError: If there is no such data, or a file cannot be read at all.
    """
    inputs = find_sources(recipe)
    # Held-out files are read only for the warnings: whether their rows are also trained, and how many there are.
    heldout = [find_input(source, heldout=True, spool=cache_folder(recipe)) for source in recipe.data.heldout]
    heldout = [draw_rows(source, seed=recipe.training.seed + at) for at, source in enumerate(heldout, len(inputs))]
    everything = [*inputs, *heldout]
    data = recipe.data.model_copy(update={"heldout_share": 0.0, "on_bad_row": "skip"})
    sources = tuple(source_work(recipe, source) for source in everything)
    work = Work(sources, "skip", data.train_on != "all", data.inline_reasoning == "split")
    purpose = reading_of(recipe.training.objective)
    account = Account(everything, data, reading=purpose)
    watch = _Watch(chat, keep_rows=keep_rows)
    with rows_read(everything, what="inspecting") as reading:
        for chunk in reading.counted(cut(everything)):
            encoded = encode_chunk(chunk, chat, work)
            account.add(encoded)
            if everything[chunk.source].heldout:
                continue
            watch.examples(encoded)
            watch.failures(encoded)
            rows = [KeptRow(*row, purpose) for row in watch.doctor.examine(chunk, sources[chunk.source])]
            watch.find_too_long(rows)
            for row in rows:
                watch.keep(row)
    settled = account.settle([line for source in inputs for line in source.evidence(purpose)])
    # Rows without a recipe are looked at, not trained, so nothing has to be held out of them.
    wants = (bool(heldout) or trains) and recipe.data.holds_out
    # All rows are shown, also those that a run would hold out, so the account has no share. The warning needs it.
    as_trained = account.settle(data=recipe.data) if wants else settled
    warnings = data_warnings(
        settled.train_ledger,
        as_trained.heldout_ledger,
        wants_heldout=wants,
        listed="The findings below have the reasons",
    )
    return replace(watch.finish(inputs, settled.train_ledger), warnings=warnings)


@dataclass
class _Watch:
    """Histograms, findings and kept rows, filled chunk by chunk."""

    chat: ChatTokenizer
    keep_rows: int
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    shares: ShareHistogram = field(default_factory=ShareHistogram)
    answer_lengths: LengthHistogram = field(default_factory=LengthHistogram)
    chosen_lengths: LengthHistogram = field(default_factory=LengthHistogram)
    rejected_lengths: LengthHistogram = field(default_factory=LengthHistogram)

    def __post_init__(self) -> None:
        chat = self.chat
        self.doctor = Doctor(
            stop_tokens=chat.stop_tokens,
            prints_reasoning=chat.takes_reasoning,
            read_rendered=chat.read_rendered,
            keep=max(1000, self.keep_rows),
        )
        self._first: list[tuple[int, KeptRow]] = []
        self._with_findings: list[tuple[int, KeptRow]] = []
        self._num_rows = 0
        self._too_long: dict[tuple[str, int], str] = {}  # what became of a row that is too long
        self._checks_stops = chat.settings.train_on != "all"

    def examples(self, encoded: EncodedChunk) -> None:
        """Count the examples of a chunk, and check that their trained runs end with a stop token."""
        shortened, escaped = (encoded.batch.column(name).to_pylist() for name in ("shortened", "escaped"))
        rows, sides = encoded.example_rows.tolist(), encoded.batch.column("side").to_pylist()
        trained = _Trained(encoded.batch, self.chat.stop_ids)
        # Inside a turn with weights of parts, training stops where a part says so.
        stops_anywhere = {encoded.chunk.places[position] for position in encoded.part_weights}
        for index, num_trained in enumerate(encoded.trained_tokens.tolist()):
            num_tokens = trained.num_tokens(index)
            self.lengths.add(num_tokens)
            self.answer_lengths.add(num_trained)
            self.shares.add(num_trained / num_tokens)
            if sides[index]:
                (self.chosen_lengths if sides[index] > 0 else self.rejected_lengths).add(num_trained)
            place = encoded.chunk.places[rows[index]]
            if sides[index] > 0 and num_trained < FEWEST_TOKENS:
                self._find(
                    "short_chosen", place, f"the chosen answer has {counted(num_trained, 'token')}, stop token included"
                )
            if escaped[index]:
                self._find("control_tokens", place, f"{escaped[index]} typed")
            if shortened[index]:
                self._too_long.setdefault((place.source, place.row), shortened[index])
            elif self._checks_stops and place not in stops_anywhere and not trained.stops(index):
                self._find("missing_stop", place, "an answer ends without the stop token")

    def failures(self, encoded: EncodedChunk) -> None:
        """Turn what the encoder left out into findings. The doctor finds rows that cannot be read, or be read back, itself."""
        for row, texts in encoded.dropped_text:
            self._find("accepted_loss", encoded.chunk.places[row], "; ".join(texts))
        for failure in encoded.failures:
            place = encoded.chunk.places[failure.row]
            if failure.reason in _REFUSED:
                self._find("refused", place, failure.message.removeprefix(f"{place}: "))
            elif failure.reason == TEXT_DROPPED:
                self._find("dropped_text", place, failure.message.removeprefix(f"{place}: "))
            elif failure.reason == TOO_LONG:
                self._too_long.setdefault((place.source, place.row), LEFT_OUT)
            elif failure.reason in NO_PAIRS:
                self._find("no_pair", place, failure.message.removeprefix(f"{place}: "))
            elif failure.reason == NOTHING_TRAINED:
                self._find("no_answer", place, "no token in it is trained")

    def find_too_long(self, rows: Sequence[KeptRow]) -> None:
        """Turn the rows of a chunk that are too long into findings, with their length."""
        for row in rows:
            how = self._too_long.pop((row.place.source, row.place.row), None)
            if how is not None:
                kind = "split_text" if how == SPLIT else "over_limit"
                # What is not kept is only counted, and its length would be measured for nothing.
                is_kept = self.doctor.findings.has_room(kind)
                self._find(kind, row.place, self._length_of(row, how) if is_kept else how)

    def _length_of(self, row: KeptRow, how: str) -> str:
        limit = self.chat.settings.max_tokens
        assert limit is not None  # without one no row is too long
        return too_long_words(longest_example(self.chat, row.conversations), limit=limit, how=how)

    def keep(self, row: KeptRow) -> None:
        """Keep a row for showing if it is among the first, or has a finding and there is room."""
        number, self._num_rows = self._num_rows, self._num_rows + 1
        if len(self._first) < self.keep_rows:
            self._first.append((number, row))
        elif len(self._with_findings) < self.keep_rows and self.doctor.findings.has(row.place):
            self._with_findings.append((number, row))

    def finish(self, inputs: Sequence[Input], ledger: Ledger) -> Survey:
        """Return the survey, with the findings that need all rows."""
        if ledger.token_factor > FACTOR_LIMIT:
            seen = f"examples have {ledger.token_factor:.1f} times the tokens of the conversations"
            self.doctor.findings.add(Finding("token_factor", None, seen))
        findings = self.doctor.finish()
        marked = [entry for entry in self._first if findings.has(entry[1].place)] + self._with_findings
        others = [entry for entry in self._first if not findings.has(entry[1].place)]
        rows = sorted((marked + others)[: self.keep_rows], key=lambda entry: entry[0])
        notes = []
        if self.doctor.num_not_compared:
            notes.append(f"{self.doctor.num_not_compared:,} rows were not remembered for finding duplicates")
        shown = [row for _, row in rows]
        return Survey(
            inputs,
            ledger,
            self.lengths,
            self.shares,
            self.answer_lengths,
            findings,
            shown,
            notes,
            chosen_lengths=self.chosen_lengths,
            rejected_lengths=self.rejected_lengths,
        )

    def _find(self, kind: str, place: Place, seen: str) -> None:
        self.doctor.findings.add(Finding(kind, place, seen))


class _Trained:
    """The trained runs of a batch of packed examples."""

    def __init__(self, batch: pa.RecordBatch, stop_ids: Sequence[int]) -> None:
        self._starts, self._ids = _lists(batch.column("token_ids"))
        self._run_starts, self._run_lengths = _lists(batch.column("run_lengths"))
        _, self._run_weights = _lists(batch.column("run_weights"))
        self._stop_ids = frozenset(stop_ids)

    def num_tokens(self, index: int) -> int:
        """Return the number of tokens of an example."""
        return int(self._starts[index + 1] - self._starts[index])

    def stops(self, index: int) -> bool:
        """Return True if every trained run of an example ends with a stop token.

        Adjacent runs of different weights count as one: the weight can change inside a turn, or between turns without
        a header.
        """
        first, last = self._run_starts[index], self._run_starts[index + 1]
        at = int(self._starts[index])
        weights = [*self._run_weights[first:last].tolist(), 0.0]
        for length, weight, following in zip(
            self._run_lengths[first:last].tolist(), weights, weights[1:], strict=False
        ):
            at += length
            if weight > 0 and following <= 0 and int(self._ids[at - 1]) not in self._stop_ids:
                return False
        return True


def _lists(column: Any) -> tuple[Any, Any]:
    """Return a list column's offsets and flat values."""
    return values_of(column.offsets), values_of(column.values)
