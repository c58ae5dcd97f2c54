"""One pass over the data: the ledger that training would write, how long examples are, and what the doctor found.

The rows go through the very functions that preparation uses (`work_on`, `Account`), so that the ledger here is training's ledger with
no rows held out. Questionable on purpose: bad rows never stop the survey, for finding all of them is what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from instil.conversation import Conversation, Place
from instil.data.formats.pattern import check_columns
from instil.data.formats.row_format import ReadOptions
from instil.data.reading import detect
from instil.errors import RecipeError
from instil.inspection.doctor import Doctor
from instil.inspection.findings import Finding, Findings
from instil.inspection.histogram import LengthHistogram, ShareHistogram
from instil.preparation.accounting import Account
from instil.preparation.arrow_columns import values_of
from instil.preparation.cache_key import cache_folder, check_folder
from instil.preparation.chunks import Input, cut, draw_rows, find_input
from instil.preparation.encode_rows import NOTHING_TRAINED, TOO_LONG, Done, SourceWork, Work, work_on
from instil.preparation.ledger import Ledger
from instil.recipe import Recipe

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

FACTOR_LIMIT = 3.0
"""A token factor above this is warned about."""
_REFUSED = ("template refuses it", "refused by encoder")


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row that is kept to be shown.

    Attributes:
        place: Where it stands.
        conversations: What was read from it; empty where it cannot be read.
    """

    place: Place
    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the data gave.

    Attributes:
        inputs: The sources, found.
        ledger: The account of the rows.
        lengths: Tokens of each example.
        shares: Trained share of each example's tokens.
        answer_lengths: Trained tokens of each example.
        findings: What was found.
        rows: Rows kept to be shown, in the order of the data.
        notes: What a person should know about the survey itself.
    """

    inputs: Sequence[Input]
    ledger: Ledger
    lengths: LengthHistogram
    shares: ShareHistogram
    answer_lengths: LengthHistogram
    findings: Findings
    rows: Sequence[KeptRow] = ()
    notes: Sequence[str] = ()


def find_sources(recipe: Recipe) -> list[Input]:
    """Find the files of a recipe's sources, and draw rows where the recipe asks for some.

    Raises:
        RecipeError: If it names none.
        DataError: If nothing is there.
    """
    if not recipe.data.sources:
        raise RecipeError("data.sources: found none; expected at least one file, folder, glob or Hub id; name one")
    spool = cache_folder(recipe)
    if any(source.path == "-" for source in recipe.data.sources):
        check_folder(spool)
    inputs = [find_input(source, heldout=False, spool=spool) for source in recipe.data.sources]
    for found in inputs:
        if found.settings.columns or found.settings.format == "pattern":
            check_columns(found.settings.columns)
    return [draw_rows(found, seed=recipe.training.seed + number) for number, found in enumerate(inputs)]


def reading_of(recipe: Recipe, found: Input) -> SourceWork:
    """Give how the rows of a source are read."""
    options = ReadOptions(found.settings.columns, recipe.data.prompt_completion)
    return SourceWork(found.settings.format, options, float(found.settings.weight), 0.0)


def survey(
    recipe: Recipe,
    chat: ChatTokenizer,
    *,
    keep_rows: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Survey:
    """Read, encode and examine every row of a recipe's sources.

    Args:
        recipe: Its `data` settings count.
        chat: Template, tokenizer and the encoder's settings.
        keep_rows: Rows to keep for showing: those with findings first, then the first of the data.
        on_progress: Called with the number of rows done, chunk by chunk.

    Raises:
        RecipeError: If the recipe names no data.
        DataError: If nothing is there, or a file is broken as a whole.
    """
    inputs = find_sources(recipe)
    data = recipe.data.model_copy(update={"heldout_share": 0.0, "heldout_max": 0, "on_bad_row": "skip"})
    sources = tuple(reading_of(recipe, found) for found in inputs)
    work = Work(sources, "skip", data.train_on != "all", data.inline_reasoning == "split")
    account = Account(inputs, data)
    watch = _Watch(chat, keep_rows=keep_rows)
    for chunk in cut(inputs):
        done = work_on(chunk, chat, work)
        account.add(done)
        watch.examples(done)
        watch.failures(done)
        for place, conversations in watch.doctor.examine(chunk, sources[chunk.source]):
            watch.keep(KeptRow(place, conversations))
        if on_progress is not None:
            on_progress(account.num_rows)
    ledger = account.settle([line for found in inputs for line in evidence_of(found)]).train_ledger
    return watch.finish(inputs, ledger)


def evidence_of(found: Input) -> list[str]:
    """Say of every file of a source what it was seen to be, and why."""
    settings = found.settings
    if settings.columns or settings.format != "auto":
        return [f"{settings.path}: {'pattern' if settings.columns else settings.format} (as the recipe says)"]
    if not found.files:
        more: dict[str, Any] = {"subset": settings.subset, "revision": settings.revision}
        return [str(seen) for seen in detect(settings.path, split=settings.split, **more)]
    return [f"{name}: {seen.format} ({seen.evidence})" for path, name in found.files for seen in detect(path)]


@dataclass
class _Watch:
    """What grows while the rows go by."""

    chat: ChatTokenizer
    keep_rows: int
    lengths: LengthHistogram = field(default_factory=LengthHistogram)
    shares: ShareHistogram = field(default_factory=ShareHistogram)
    answer_lengths: LengthHistogram = field(default_factory=LengthHistogram)

    def __post_init__(self) -> None:
        chat = self.chat
        self.doctor = Doctor(
            stop_tokens=chat.stop_tokens, prints_reasoning=chat.takes_reasoning, keep=max(1000, self.keep_rows)
        )
        self._first: list[tuple[int, KeptRow]] = []
        self._found: list[tuple[int, KeptRow]] = []
        self._num_rows = 0
        self._checks_stops = chat.settings.train_on != "all"

    def examples(self, done: Done) -> None:
        """Count the examples of a chunk, and check how their trained runs end."""
        shortened, escaped, source, row = (
            done.batch.column(name).to_pylist() for name in ("shortened", "escaped", "source", "row")
        )
        trained = _Trained(done.batch, self.chat.stop_ids)
        for index, num_trained in enumerate(done.trained_tokens.tolist()):
            num_tokens = trained.num_tokens(index)
            self.lengths.add(num_tokens)
            self.answer_lengths.add(num_trained)
            self.shares.add(num_trained / num_tokens)
            place = Place(source[index], row[index])
            if escaped[index]:
                self._find("control_tokens", place, f"{escaped[index]} typed")
            if shortened[index]:
                self._find("over_limit", place, f"shortened: {shortened[index]}")
            elif self._checks_stops and not trained.stops(index):
                self._find("missing_stop", place, "an answer ends without the stop token")

    def failures(self, done: Done) -> None:
        """Turn what the encoder left out into findings; what could not be read, the doctor sees himself."""
        limit = self.chat.settings.max_tokens
        for failure in done.failures:
            place = done.chunk.places[failure.row]
            if failure.reason in _REFUSED:
                self._find("refused", place, failure.message.removeprefix(f"{place}: "))
            elif failure.reason == TOO_LONG:
                self._find("over_limit", place, f"left out: more than {limit:,} tokens" if limit else "left out")
            elif failure.reason == NOTHING_TRAINED:
                self._find("no_answer", place, "no token in it is trained")

    def keep(self, row: KeptRow) -> None:
        """Keep a row for showing, if there is room."""
        number, self._num_rows = self._num_rows, self._num_rows + 1
        if len(self._first) < self.keep_rows:
            self._first.append((number, row))
        elif len(self._found) < self.keep_rows and self.doctor.findings.has(row.place):
            self._found.append((number, row))

    def finish(self, inputs: Sequence[Input], ledger: Ledger) -> Survey:
        """Put everything together."""
        if ledger.token_factor > FACTOR_LIMIT:
            seen = f"examples have {ledger.token_factor:.1f} times the tokens of the conversations"
            self.doctor.findings.add(Finding("token_factor", None, seen))
        findings = self.doctor.finish()
        marked = [each for each in self._first if findings.has(each[1].place)] + self._found
        others = [each for each in self._first if not findings.has(each[1].place)]
        rows = sorted((marked + others)[: self.keep_rows], key=lambda each: each[0])
        notes = []
        if self.doctor.num_not_compared:
            notes.append(f"{self.doctor.num_not_compared:,} rows came after the memory for duplicates was full")
        shown = [row for _, row in rows]
        return Survey(inputs, ledger, self.lengths, self.shares, self.answer_lengths, findings, shown, notes)

    def _find(self, kind: str, place: Place, seen: str) -> None:
        self.doctor.findings.add(Finding(kind, place, seen))


class _Trained:
    """The trained stretches of a batch of packed examples."""

    def __init__(self, batch: pa.RecordBatch, stop_ids: Sequence[int]) -> None:
        self._starts, self._ids = _lists(batch.column("token_ids"))
        self._run_starts, self._run_lengths = _lists(batch.column("run_lengths"))
        _, self._run_weights = _lists(batch.column("run_weights"))
        self._stop_ids = frozenset(stop_ids)

    def num_tokens(self, index: int) -> int:
        """Give the length of an example."""
        return int(self._starts[index + 1] - self._starts[index])

    def stops(self, index: int) -> bool:
        """Tell whether every trained stretch of an example ends with a stop token.

        Runs of two weights that touch are one stretch: a turn whose tokens differ in weight, or two turns without a header between.
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
    """Give a list column's offsets and flat values."""
    return values_of(column.offsets), values_of(column.values)
