"""Adds up what the workers did, decides the split, and writes the ledgers.

One growing table of arrays with an element a row and an element an example; when the last chunk is in, `Account.settle`
says which examples are trained and which are held out. Questionable on purpose: nothing is decided before the last row,
because duplicates, the held-out maximum and overlaps are properties of the whole.
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
from instil.preparation.encode_rows import Done, Failure
from instil.preparation.ledger import DUPLICATE, HELD_OUT, NOT_DRAWN, Ledger, Tally, encoder_notes
from instil.preparation.split import Mask, held_out, repeated
from instil.recipe import DataSettings

OVER_MAXIMUM = "over heldout_max"


@dataclass(frozen=True, slots=True)
class Settled:
    """What is trained and what is held out.

    Attributes:
        train: Numbers of the examples of one epoch, in order, with repetition.
        heldout: Numbers of the held-out examples.
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
    """Takes results chunk by chunk; memory grows by some tens of bytes a row."""

    def __init__(self, inputs: Sequence[Input], data: DataSettings) -> None:
        self._inputs, self._data = inputs, data
        self._files: dict[str, int] = {}
        self._rows: dict[str, list[npt.NDArray[Any]]] = {}
        self._examples: dict[str, list[npt.NDArray[Any]]] = {}
        self.num_rows = 0
        self._num_examples = 0
        self._failures: list[tuple[int, Failure, Place]] = []
        self._shortened: list[tuple[int, str]] = []
        self._inline: list[int] = []
        self._misspelt: dict[tuple[str, str], list[int]] = {}
        self._formats: dict[str, int] = {"": 0}
        self._candidates = _Candidates(data.heldout_max)
        self._report: dict[str, int] = {}

    def add(self, done: Done) -> None:
        """Take the result of one chunk; chunks come in order."""
        places = done.chunk.places
        first_row, first_example = self.num_rows, self._num_examples
        files = [self._files.setdefault(place.source, len(self._files)) for place in places]
        formats = [self._formats.setdefault(name, len(self._formats)) for name in done.formats]
        row_values: dict[str, npt.NDArray[Any]] = {
            "source": np.full(len(places), done.chunk.source, dtype=np.int32),
            "file": np.array(files, dtype=np.int32),
            "number": np.array([place.row for place in places], dtype=np.int64),
            "hash": done.hashes,
            "format": np.array(formats, dtype=np.int16),
            "num_conversations": done.num_conversations,
            "conversation_tokens": done.conversation_tokens,
        }
        for name, values in row_values.items():
            self._rows.setdefault(name, []).append(values)
        for name, values in {
            "row": done.example_rows.astype(np.int64) + first_row,
            "tokens": np.diff(values_of(done.batch.column("token_ids").offsets)),
            "trained": done.trained_tokens,
            "weight": values_of(done.batch.column("trained_weight")),
            "escaped": values_of(done.batch.column("escaped")),
        }.items():
            self._examples.setdefault(name, []).append(values)
        if done.batch.column("shortened").null_count < done.batch.num_rows:
            how = done.batch.column("shortened").to_pylist()
            self._shortened += [(first_example + n, word) for n, word in enumerate(how) if word is not None]
        self._failures += [(first_row + each.row, each, places[each.row]) for each in done.failures]
        self._inline += [first_row + row for row in done.inline_reasoning]
        for row, key, meant in done.misspelt:
            self._misspelt.setdefault((key, meant), []).append(first_row + row)
        for row, conversations in done.candidates:
            self._candidates.add(int(done.hashes[row]), first_row + row, conversations)
        for name, count in done.report.items():
            self._report[name] = self._report.get(name, 0) + count
        self.num_rows += len(places)
        self._num_examples += done.batch.num_rows

    def settle(self, evidence: Sequence[str] = ()) -> Settled:
        """Decide the split and write both ledgers; each is checked to balance."""
        rows = {name: np.concatenate(pieces) for name, pieces in self._rows.items()} if self._rows else {}
        if not rows:
            return self._settled(_Table.empty(), evidence)
        examples = {name: np.concatenate(pieces) for name, pieces in self._examples.items()}
        return self._settled(_Table(rows, examples), evidence)

    def _settled(self, table: _Table, evidence: Sequence[str]) -> Settled:
        sides = self._sides(table)
        ledger, heldout_ledger = Ledger(evidence=list(evidence)), Ledger()
        self._fill(ledger, table, of=~sides.aside, used=sides.trained, again=sides.again)
        own = sides.aside if sides.given else sides.chosen
        self._fill(heldout_ledger, table, of=own, used=sides.held, again=sides.again_held)
        self._leave_out(ledger, HELD_OUT, table, sides.chosen & ~sides.aside)
        self._leave_out(heldout_ledger, OVER_MAXIMUM, table, sides.usable & sides.aside & ~sides.chosen)
        self._list(ledger.overlap, table, np.isin(table.rows["hash"], table.rows["hash"][sides.held]) & sides.trained)
        self._count_undrawn(ledger, heldout_ledger)
        ledger.notes += encoder_notes(self._report)
        train = self._one_epoch(table, sides.trained)
        heldout = np.flatnonzero(sides.held[table.examples["row"]])
        ledger.examples_an_epoch, heldout_ledger.examples_an_epoch = len(train), len(heldout)
        ledger.assert_balanced()
        heldout_ledger.assert_balanced()
        return Settled(train, heldout, ledger, heldout_ledger, self._candidates.of(np.flatnonzero(sides.held)))

    def _sides(self, table: _Table) -> _Sides:
        """Decide for every row whether it is trained, held out, or neither."""
        data, hashes = self._data, table.rows["hash"]
        given = np.array([found.heldout for found in self._inputs], dtype=bool)
        aside: Mask = given[table.rows["source"]]
        usable: Mask = table.rows["num_conversations"] > 0
        if given.any():
            chosen = held_out(hashes, usable & aside, share=1.0, maximum=data.heldout_max)
        else:
            chosen = held_out(hashes, usable, share=data.heldout_share, maximum=data.heldout_max)
        trained: Mask = usable & ~aside & ~chosen
        again, again_held = repeated(hashes, trained), repeated(hashes, chosen)
        held = chosen
        if data.deduplicate:
            trained, held = trained & ~again, chosen & ~again_held
        return _Sides(bool(given.any()), aside, usable, chosen, trained, held, again, again_held)

    def _fill(self, ledger: Ledger, table: _Table, *, of: Mask, used: Mask, again: Mask) -> None:
        """Account for the rows `of` a set, of which `used` become examples."""
        ledger.rows_in = int(of.sum())
        ledger.rows_trained = int(used.sum())
        seen: set[int] = set()
        for row, failure, place in self._failures:
            if not of[row]:
                continue
            if table.rows["num_conversations"][row]:
                tallies = ledger.parts_left_out
            elif row in seen:
                continue
            else:
                tallies = ledger.left_out
                seen.add(row)
            tallies.setdefault(failure.reason, Tally()).add(place, example=failure.message)
        self._list(ledger.duplicates, table, again)
        if self._data.deduplicate:
            self._leave_out(ledger, DUPLICATE, table, again)
        self._list(ledger.inline_reasoning, table, _mask(self._inline, len(used)) & used)
        self._note_misspelt(ledger, table, used)
        mine: Mask = used[table.examples["row"]]
        ledger.conversations = int(table.rows["num_conversations"][used].sum())
        ledger.conversation_tokens = int(table.rows["conversation_tokens"][used].sum())
        ledger.examples = int(mine.sum())
        ledger.tokens = int(table.examples["tokens"][mine].sum(dtype=np.int64))
        ledger.trained_tokens = int(table.examples["trained"][mine].sum(dtype=np.int64))
        ledger.trained_weight = round(float(table.examples["weight"][mine].sum(dtype=np.float64)), 4)
        escaped = table.examples["escaped"]
        where = np.unique(table.examples["row"][mine & (escaped > 0)])
        self._list(ledger.escaped, table, _mask(where, len(used)))
        ledger.escaped.count = int(escaped[mine].sum(dtype=np.int64))
        for number, how in self._shortened:
            if mine[number]:
                place = self._place(table, int(table.examples["row"][number]))
                ledger.shortened.setdefault(how, Tally()).add(place)
        counts = np.bincount(table.rows["format"][of & (table.rows["format"] > 0)], minlength=len(self._formats))
        ledger.formats = {name: int(counts[number]) for name, number in self._formats.items() if counts[number]}

    def _note_misspelt(self, ledger: Ledger, table: _Table, used: Mask) -> None:
        for (key, meant), rows in sorted(self._misspelt.items()):
            where = [row for row in rows if used[row]]
            if where:
                ledger.notes.append(
                    f"{self._place(table, where[0])}: the key {key!r} is not read (did you mean {meant!r}?); "
                    f"rows with it: {len(where):,}"
                )

    def _one_epoch(self, table: _Table, trained: Mask) -> npt.NDArray[np.int64]:
        """Give the examples of one epoch: source after source, each as often as the recipe says."""
        sources = table.rows["source"][table.examples["row"]]
        mine: Mask = trained[table.examples["row"]]
        pieces = [
            np.tile(np.flatnonzero(mine & (sources == number)), found.settings.repeat)
            for number, found in enumerate(self._inputs)
            if not found.heldout
        ]
        return np.concatenate(pieces).astype(np.int64) if pieces else np.zeros(0, dtype=np.int64)

    def _count_undrawn(self, ledger: Ledger, heldout_ledger: Ledger) -> None:
        for found in self._inputs:
            if found.drawn is None or found.num_rows is None:
                continue
            account = heldout_ledger if found.heldout else ledger
            left = found.num_rows - len(found.drawn)
            account.rows_in += left
            if left:
                account.leave_out(NOT_DRAWN, None, count=left, example=f"rows: {found.settings.rows}")
            elif found.settings.rows and found.settings.rows > found.num_rows:
                account.notes.append(
                    f"{found.settings.path}: rows: {found.settings.rows} asked for, there are {found.num_rows}"
                )

    def _list(self, tally: Tally, table: _Table, mask: Mask) -> None:
        """Count the rows of a mask, with the places of the first."""
        where = np.flatnonzero(mask)
        tally.count += len(where)
        tally.places += [str(self._place(table, int(row))) for row in where[:20]]

    def _leave_out(self, ledger: Ledger, reason: str, table: _Table, mask: Mask) -> None:
        if mask.any():
            self._list(ledger.left_out.setdefault(reason, Tally()), table, mask)

    def _place(self, table: _Table, row: int) -> Place:
        names = list(self._files)
        return Place(names[int(table.rows["file"][row])], int(table.rows["number"][row]))


@dataclass(frozen=True, slots=True)
class _Sides:
    """Which rows are what, as masks.

    Attributes:
        given: Whether held-out rows come from sources of their own.
        aside: Rows of those sources.
        usable: Rows that gave examples.
        chosen: Rows on the held-out side.
        trained: Rows that are trained.
        held: Rows that are evaluated on: those chosen, less duplicates where the recipe says so.
        again: Rows to train on whose content came before.
        again_held: The same among those chosen.
    """

    given: bool
    aside: Mask
    usable: Mask
    chosen: Mask
    trained: Mask
    held: Mask
    again: Mask
    again_held: Mask


@dataclass(frozen=True, slots=True)
class _Table:
    """Everything about rows and examples, as arrays by name."""

    rows: dict[str, npt.NDArray[Any]]
    examples: dict[str, npt.NDArray[Any]]

    @classmethod
    def empty(cls) -> _Table:
        nothing = np.zeros(0, dtype=np.int64)
        rows = ("source", "file", "number", "hash", "format", "num_conversations", "conversation_tokens")
        examples = ("row", "tokens", "trained", "weight", "escaped")
        return cls(
            {name: nothing.astype(np.uint64) if name == "hash" else nothing for name in rows},
            dict.fromkeys(examples, nothing),
        )


def _mask(rows: Sequence[int] | npt.NDArray[Any], length: int) -> Mask:
    mask: Mask = np.zeros(length, dtype=bool)
    mask[np.asarray(rows, dtype=np.int64)] = True
    return mask


class _Candidates:
    """Conversations that may be held out: never many more than the maximum, the smallest hashes."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._kept: list[tuple[int, int, list[dict[str, Any]]]] = []
        self._limit = 2**64

    def add(self, row_hash: int, row: int, conversations: list[dict[str, Any]]) -> None:
        """Keep a row's conversations, if it can still be among those with the smallest hashes."""
        if not self._maximum or row_hash > self._limit:
            return
        self._kept.append((row_hash, row, conversations))
        if len(self._kept) > 2 * self._maximum + 64:
            self._kept.sort(key=lambda entry: entry[:2])
            self._limit = self._kept[self._maximum][0]
            self._kept = [entry for entry in self._kept if entry[0] <= self._limit]

    def of(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Give the conversations of these rows, in their order."""
        by_row = {row: conversations for _, row, conversations in self._kept}
        return [conversation for row in rows.tolist() for conversation in by_row[row]]
