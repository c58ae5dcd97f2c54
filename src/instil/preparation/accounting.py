"""Add up the results of the workers, decide the split, and write the ledgers.

`Account` collects arrays with one element per row and one per example. After the last chunk, `Account.settle` decides
which examples are trained and which are held out.

Why: duplicates, the held-out maximum and overlaps depend on all rows, so nothing is decided before the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from instil.conversation import Place
from instil.preparation.arrow_columns import values_of
from instil.preparation.chunks import Input
from instil.preparation.encode_rows import EncodedChunk, Failure
from instil.preparation.ledger import (
    DUPLICATE,
    HELD_OUT,
    MAX_PLACES,
    NOT_DRAWN,
    Answers,
    Ledger,
    Tally,
    encoder_notes,
    rejected_notes,
)
from instil.preparation.split import Mask, among, held_out, repeated
from instil.recipe import DataSettings, Reading
from instil.units import counted

OVER_MAXIMUM = "over heldout_max"


@dataclass(frozen=True, slots=True)
class Settled:
    """The split and its ledgers.

    Attributes:
        train: Indices of the examples of one epoch, in order, with repetition.
        heldout: Indices of the held-out examples.
        train_ledger: The account of the rows to train on.
        heldout_ledger: The account of the held-out rows.
        heldout_rows: Held-out conversations as JSON values with their places, in order.
    """

    train: npt.NDArray[np.int64]
    heldout: npt.NDArray[np.int64]
    train_ledger: Ledger
    heldout_ledger: Ledger
    heldout_rows: list[dict[str, Any]]


class Account:
    """Adds up results chunk by chunk; memory grows by some tens of bytes per row."""

    def __init__(self, inputs: Sequence[Input], data: DataSettings, *, reading: Reading = "sft") -> None:
        self._inputs, self._data, self._reading = inputs, data, reading
        self._files: dict[str, int] = {}
        self._rows: dict[str, list[npt.NDArray[Any]]] = {}
        self._examples: dict[str, list[npt.NDArray[Any]]] = {}
        self.num_rows = 0
        self._num_examples = 0
        self._failures: list[tuple[int, Failure, Place]] = []
        self._shortened: list[tuple[int, str]] = []
        self._inline: list[int] = []
        self._part_weights: list[int] = []
        self._rendered: dict[str, list[int]] = {}
        self._misspelt: dict[tuple[str, str], list[int]] = {}
        self._formats: dict[str, int] = {"": 0}
        self._candidates = _Candidates(data.heldout_max)
        self._report: dict[str, int] = {}

    def add(self, encoded: EncodedChunk) -> None:
        """Add the result of one chunk. Chunks come in order."""
        self._add_rows(encoded)
        self._add_examples(encoded)
        # Positions in the chunk become positions in the data.
        first_row, places = self.num_rows, encoded.chunk.places
        self._failures += [(first_row + failure.row, failure, places[failure.row]) for failure in encoded.failures]
        self._inline += [first_row + row for row in encoded.inline_reasoning]
        for row, template in encoded.rendered:
            self._rendered.setdefault(template, []).append(first_row + row)
        self._part_weights += [first_row + row for row in encoded.part_weights]
        for row, key, meant in encoded.misspelt:
            self._misspelt.setdefault((key, meant), []).append(first_row + row)
        for row, conversations in encoded.candidates:
            self._candidates.add(int(encoded.hashes[row]), first_row + row, conversations)
        for name, count in encoded.report.items():
            self._report[name] = self._report.get(name, 0) + count
        self.num_rows += len(places)
        self._num_examples += encoded.batch.num_rows

    def _add_rows(self, encoded: EncodedChunk) -> None:
        places = encoded.chunk.places
        files = [self._files.setdefault(place.source, len(self._files)) for place in places]
        formats = [self._formats.setdefault(name, len(self._formats)) for name in encoded.formats]
        columns: dict[str, npt.NDArray[Any]] = {
            "source": np.full(len(places), encoded.chunk.source, dtype=np.int32),
            "file": np.array(files, dtype=np.int32),
            "number": np.array([place.row for place in places], dtype=np.int64),
            "line": np.array([place.line or 0 for place in places], dtype=np.int64),
            "hash": encoded.hashes,
            "format": np.array(formats, dtype=np.int16),
            "num_conversations": encoded.num_conversations,
            "conversation_tokens": encoded.conversation_tokens,
        }
        for name, values in columns.items():
            self._rows.setdefault(name, []).append(values)

    def _add_examples(self, encoded: EncodedChunk) -> None:
        batch = encoded.batch
        columns: dict[str, npt.NDArray[Any]] = {
            "row": encoded.example_rows.astype(np.int64) + self.num_rows,
            "tokens": np.diff(values_of(batch.column("token_ids").offsets)),
            "trained": encoded.trained_tokens,
            # Copies: a view of one column would keep the whole batch, token ids included, in memory.
            "weight": values_of(batch.column("trained_weight")).copy(),
            "escaped": values_of(batch.column("escaped")).copy(),
            "side": values_of(batch.column("side")).copy(),
        }
        for name, values in columns.items():
            self._examples.setdefault(name, []).append(values)
        if batch.column("shortened").null_count < batch.num_rows:
            for number, how in enumerate(batch.column("shortened").to_pylist(), start=self._num_examples):
                if how is not None:
                    self._shortened.append((number, how))

    def settle(self, evidence: Sequence[str] = (), *, data: DataSettings | None = None) -> Settled:
        """Decide the split and write both ledgers.

        Args:
            evidence: What was seen of the sources, for the ledger.
            data: Settings that decide the split instead of the account's own. The result then has no held-out
                conversations.

        Raises:
            DataError: If a ledger does not account for every row.
        """
        table = _Table(_joined(self._rows), _joined(self._examples)) if self._rows else _Table.empty()
        return self._settled(table, evidence, data or self._data)

    def _settled(self, table: _Table, evidence: Sequence[str], data: DataSettings) -> Settled:
        sides = self._sides(table, data)
        ledger, heldout_ledger = Ledger(evidence=list(evidence)), Ledger()
        self._fill(ledger, table, of=~sides.aside, used=sides.trained, again=sides.again)
        own = sides.aside if sides.has_heldout_sources else sides.chosen
        self._fill(heldout_ledger, table, of=own, used=sides.held, again=sides.again_held)
        self._leave_out(ledger, HELD_OUT, table, sides.chosen & ~sides.aside)
        self._leave_out(heldout_ledger, OVER_MAXIMUM, table, sides.usable & sides.aside & ~sides.chosen)
        hashes = table.rows["hash"]
        is_overlap = among(hashes, hashes[sides.held]) & sides.trained
        self._list(ledger.overlap, table, is_overlap)
        self._list(heldout_ledger.overlap, table, among(hashes, hashes[is_overlap]) & sides.held)
        self._count_undrawn(ledger, heldout_ledger)
        ledger.notes += [*rejected_notes(ledger), *encoder_notes(self._report)]
        train = self._one_epoch(table, sides.trained)
        heldout = np.flatnonzero(sides.held[table.examples["row"]])
        ledger.examples_an_epoch, heldout_ledger.examples_an_epoch = len(train), len(heldout)
        ledger.assert_balanced()
        heldout_ledger.assert_balanced()
        # For another split than the account's own, the conversations were not kept.
        kept = self._candidates.of(np.flatnonzero(sides.held)) if data is self._data else []
        return Settled(train, heldout, ledger, heldout_ledger, kept)

    def _sides(self, table: _Table, data: DataSettings) -> _Sides:
        """Decide for every row whether it is trained, held out, or neither."""
        hashes = table.rows["hash"]
        is_heldout_source = np.array([source.heldout for source in self._inputs], dtype=bool)
        aside: Mask = is_heldout_source[table.rows["source"]]
        usable: Mask = table.rows["num_conversations"] > 0
        if is_heldout_source.any():
            chosen = held_out(hashes, usable & aside, share=1.0, maximum=data.heldout_max)
        else:
            chosen = held_out(hashes, usable, share=data.heldout_share, maximum=data.heldout_max)
        trained: Mask = usable & ~aside & ~chosen
        again, again_held = repeated(hashes, trained), repeated(hashes, chosen)
        held = chosen
        if data.deduplicate:
            trained, held = trained & ~again, chosen & ~again_held
        return _Sides(bool(is_heldout_source.any()), aside, usable, chosen, trained, held, again, again_held)

    def _fill(self, ledger: Ledger, table: _Table, *, of: Mask, used: Mask, again: Mask) -> None:
        """Account for the rows `of` a set, of which `used` become examples."""
        ledger.reading = self._reading
        ledger.rows_in = int(of.sum())
        ledger.rows_trained = int(used.sum())
        self._fill_failures(ledger, table, of)
        self._list(ledger.duplicates, table, again)
        if self._data.deduplicate:
            self._leave_out(ledger, DUPLICATE, table, again)
        self._list(ledger.inline_reasoning, table, _mask(self._inline, len(used)) & used)
        for template, rows in self._rendered.items():
            mask = _mask(rows, len(used)) & used
            if mask.any():
                self._list(ledger.rendered.setdefault(template, Tally()), table, mask)
        self._list(ledger.part_weights, table, _mask(self._part_weights, len(used)) & used)
        self._note_misspelt(ledger, table, used)
        ledger.conversations = int(table.rows["num_conversations"][used].sum())
        ledger.conversation_tokens = int(table.rows["conversation_tokens"][used].sum())
        self._fill_examples(ledger, table, used[table.examples["row"]])
        formats = table.rows["format"]
        counts = np.bincount(formats[of & (formats > 0)], minlength=len(self._formats))
        ledger.formats = {name: int(counts[number]) for name, number in self._formats.items() if counts[number]}

    def _fill_failures(self, ledger: Ledger, table: _Table, of: Mask) -> None:
        """Account for the failures of the rows `of` a set. A row left out counts once."""
        left_out: set[int] = set()
        for row, failure, place in self._failures:
            if not of[row] or row in left_out:
                continue
            if table.rows["num_conversations"][row]:  # another conversation of the row is used
                tallies = ledger.parts_left_out
            else:
                tallies = ledger.left_out
                left_out.add(row)
            tallies.setdefault(failure.reason, Tally()).add(place, example=failure.message)

    def _fill_examples(self, ledger: Ledger, table: _Table, used: Mask) -> None:
        """Account for the used examples; `used` has one element per example here."""
        examples = table.examples
        ledger.examples = int(used.sum())
        ledger.tokens = int(examples["tokens"][used].sum(dtype=np.int64))
        ledger.trained_tokens = int(examples["trained"][used].sum(dtype=np.int64))
        for name, side in (("chosen", 1), ("rejected", -1)):
            of_side = used & (examples["side"] == side)
            setattr(ledger, name, Answers(int(of_side.sum()), int(examples["trained"][of_side].sum(dtype=np.int64))))
        ledger.trained_weight = round(float(examples["weight"][used].sum(dtype=np.float64)), 4)
        escaped = examples["escaped"]
        rows = np.unique(examples["row"][used & (escaped > 0)])
        self._list(ledger.escaped, table, _mask(rows, len(table.rows["hash"])))
        ledger.escaped.count = int(escaped[used].sum(dtype=np.int64))  # tokens, where `_list` counted rows
        for number, how in self._shortened:
            if used[number]:
                place = self._place(table, int(examples["row"][number]))
                ledger.shortened.setdefault(how, Tally()).add(place)

    def _note_misspelt(self, ledger: Ledger, table: _Table, used: Mask) -> None:
        for (key, meant), all_rows in sorted(self._misspelt.items()):
            rows = [row for row in all_rows if used[row]]
            if rows:
                ledger.notes.append(
                    f"{self._place(table, rows[0])}: the key {key!r} is not read (did you mean {meant!r}?). "
                    f"Rows with this key: {len(rows):,}. Rename it if that is meant."
                )

    def _one_epoch(self, table: _Table, trained: Mask) -> npt.NDArray[np.int64]:
        """Return the indices of one epoch's examples: source after source, each repeated as the recipe says."""
        sources = table.rows["source"][table.examples["row"]]
        is_trained: Mask = trained[table.examples["row"]]
        pieces = [
            np.tile(np.flatnonzero(is_trained & (sources == number)), source.settings.repeat)
            for number, source in enumerate(self._inputs)
            if not source.heldout
        ]
        return np.concatenate(pieces).astype(np.int64) if pieces else np.zeros(0, dtype=np.int64)

    def _count_undrawn(self, ledger: Ledger, heldout_ledger: Ledger) -> None:
        """Account for the rows that were not drawn; encoding never saw them."""
        for source in self._inputs:
            if source.drawn is None or source.num_rows is None:
                continue
            account = heldout_ledger if source.heldout else ledger
            path, requested = source.settings.path, source.settings.rows
            num_left = source.num_rows - len(source.drawn)
            account.rows_in += num_left
            if num_left:
                account.leave_out(NOT_DRAWN, None, count=num_left, example=f"rows: {requested}")
            elif requested and requested > source.num_rows:
                account.notes.append(
                    f"{path}: has {counted(source.num_rows, 'row')}; the recipe requests {requested:,}"
                )

    def _list(self, tally: Tally, table: _Table, mask: Mask) -> None:
        """Count the rows of a mask, with the places of the first ones."""
        rows = np.flatnonzero(mask)
        tally.count += len(rows)
        tally.places += [str(self._place(table, int(row))) for row in rows[:MAX_PLACES]]

    def _leave_out(self, ledger: Ledger, reason: str, table: _Table, mask: Mask) -> None:
        if mask.any():
            self._list(ledger.left_out.setdefault(reason, Tally()), table, mask)

    def _place(self, table: _Table, row: int) -> Place:
        names = list(self._files)
        line = int(table.rows["line"][row]) or None
        return Place(names[int(table.rows["file"][row])], int(table.rows["number"][row]), line=line)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The use of every row, as masks.

    Attributes:
        has_heldout_sources: Whether held-out rows come from sources of their own.
        aside: Rows of those sources.
        usable: Rows that gave examples.
        chosen: Rows on the held-out side.
        trained: Rows that are trained.
        held: Rows to evaluate on: those chosen, without duplicates if the recipe says so.
        again: Duplicates among the rows to train on, the first of each kind excepted.
        again_held: Duplicates among the chosen rows.
    """

    has_heldout_sources: bool
    aside: Mask
    usable: Mask
    chosen: Mask
    trained: Mask
    held: Mask
    again: Mask
    again_held: Mask


@dataclass(frozen=True, slots=True)
class _Table:
    """All rows and examples, as arrays by name. ``row`` of an example is its row's index."""

    rows: dict[str, npt.NDArray[Any]]
    examples: dict[str, npt.NDArray[Any]]

    @classmethod
    def empty(cls) -> _Table:
        zero_rows = np.zeros(0, dtype=np.int64)
        rows = ("source", "file", "number", "line", "hash", "format", "num_conversations", "conversation_tokens")
        examples = ("row", "tokens", "trained", "weight", "escaped", "side")
        return cls(
            {name: zero_rows.astype(np.uint64) if name == "hash" else zero_rows for name in rows},
            dict.fromkeys(examples, zero_rows),
        )


def _joined(columns: dict[str, list[npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Return each column as one array. It takes the place of its pieces, so that both are there for one column only."""
    for pieces in columns.values():
        pieces[:] = [np.concatenate(pieces)]
    return {name: pieces[0] for name, pieces in columns.items()}


def _mask(rows: Sequence[int] | npt.NDArray[Any], length: int) -> Mask:
    mask: Mask = np.zeros(length, dtype=bool)
    mask[np.asarray(rows, dtype=np.int64)] = True
    return mask


class _Candidates:
    """Conversations that may be held out: those with the smallest hashes, about twice the maximum at most."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._kept: list[tuple[int, int, list[dict[str, Any]]]] = []
        self._limit = 2**64

    def add(self, row_hash: int, row: int, conversations: list[dict[str, Any]]) -> None:
        """Keep a row's conversations if its hash can still be among the smallest."""
        if not self._maximum or row_hash > self._limit:
            return
        self._kept.append((row_hash, row, conversations))
        if len(self._kept) > 2 * self._maximum + 64:
            self._kept.sort(key=lambda entry: entry[:2])
            self._limit = self._kept[self._maximum][0]
            self._kept = [entry for entry in self._kept if entry[0] <= self._limit]

    def of(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the conversations of these rows, in their order."""
        by_row = {row: conversations for _, row, conversations in self._kept}
        return [conversation for row in rows.tolist() for conversation in by_row[row]]
