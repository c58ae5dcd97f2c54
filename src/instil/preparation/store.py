"""The store of prepared examples: one memory-mapped Arrow file, and an index of its trained and held-out examples.

`store_writer` writes it, training reads it by index. Opening takes the same time for any size.

Why: trained and held-out examples are in one file, in the order of the data, with an index for each. So the split can
be decided after the last row, and repetition costs an index instead of a copy.
"""

from __future__ import annotations

import contextlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as whole_number
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instil.conversation import Example, Place
from instil.errors import DataError
from instil.file_use import FileUse
from instil.preparation.arrow_columns import flat, lists, numbers, numbers_or_none, texts, values_of
from instil.preparation.ledger import Ledger

if TYPE_CHECKING:
    from instil.preparation.torch_examples import TorchExamples

VERSION = 5
Split: TypeAlias = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
SCHEMA = pa.schema(
    [
        ("token_ids", pa.list_(pa.int32())),
        ("run_lengths", pa.list_(pa.int32())),
        ("run_weights", pa.list_(pa.float32())),
        ("trained_weight", pa.float32()),
        ("turns", pa.list_(pa.int32())),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("part", pa.int32()),
        ("line", pa.int64()),
        ("shortened", pa.string()),
        ("escaped", pa.int32()),
        ("side", pa.int8()),
    ]
)
SIDES: Mapping[str | None, int] = {None: 0, "chosen": 1, "rejected": -1}
"""The number of each side in the column ``side``. A pair is two adjacent examples, the chosen one first."""
_SIDE_NAMES: Mapping[int, Literal["chosen", "rejected"] | None] = {0: None, 1: "chosen", -1: "rejected"}
EXAMPLES, STORE, LEDGER = "examples.arrow", "store.json", "ledger.json"


def pack(examples: Sequence[Example]) -> pa.RecordBatch:
    """Return examples as one record batch of `SCHEMA`. Weights become runs of equal values.

    Raises:
        DataError: If an example does not have one weight per token.
    """
    # All examples are laid end to end: one pass over arrays instead of a loop over examples.
    lengths = np.fromiter((len(example.token_ids) for example in examples), dtype=np.int64, count=len(examples))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    token_ids = flat([example.token_ids for example in examples], "i")
    weights = flat([example.weights for example in examples], "f")
    if len(weights) != len(token_ids):
        wrong = next(example for example in examples if len(example.weights) != len(example.token_ids))
        raise DataError(
            f"{wrong.place}: {len(wrong.weights)} weights for {len(wrong.token_ids)} tokens. Expected one per token. "
            "A bug in instil: report it."
        )
    # A run starts where the weight changes, and at the first token of every example.
    is_start = np.ones(len(weights), dtype=bool)
    is_start[1:] = weights[1:] != weights[:-1]
    is_start[offsets[:-1][lengths > 0]] = True
    run_starts = np.flatnonzero(is_start)
    run_lengths = np.diff(np.append(run_starts, len(weights))).astype(np.int32)
    run_offsets = np.searchsorted(run_starts, offsets)
    sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
    turn_offsets = np.concatenate(([0], np.cumsum([len(example.turns) for example in examples], dtype=np.int64)))
    places = [example.place for example in examples]
    return pa.record_batch(
        [
            lists(offsets, token_ids),
            lists(run_offsets, run_lengths),
            lists(run_offsets, weights[run_starts]),
            numbers((sums[offsets[1:]] - sums[offsets[:-1]]).astype(np.float32)),
            lists(turn_offsets, flat([example.turns for example in examples], "i")),
            texts([None if place is None else place.source for place in places]),
            numbers_or_none([None if place is None else place.row for place in places], np.int64),
            numbers_or_none([None if place is None else place.part for place in places], np.int32),
            numbers_or_none([None if place is None else place.line for place in places], np.int64),
            texts([example.shortened for example in examples]),
            numbers_or_none([example.escaped for example in examples], np.int32),
            numbers(np.array([SIDES[example.side] for example in examples], dtype=np.int8)),
        ],
        schema=SCHEMA,
    )


def trained_tokens(batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
    """Return the number of tokens with a weight above 0 of each example."""
    lengths, weights = batch.column("run_lengths"), batch.column("run_weights")
    sums = np.concatenate(([0], np.cumsum(values_of(lengths.values) * (values_of(weights.values) > 0))))
    trained: npt.NDArray[np.int32] = np.diff(sums[values_of(lengths.offsets)]).astype(np.int32)
    return trained


@dataclass(frozen=True, slots=True)
class _Batch:
    """Views of one record batch, without copies."""

    token_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    run_offsets: npt.NDArray[np.int32]
    run_lengths: npt.NDArray[np.int32]
    run_weights: npt.NDArray[np.float32]
    rest: pa.RecordBatch

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Batch:
        ids, lengths, weights = batch.column(0), batch.column(1), batch.column(2)
        return cls(
            values_of(ids.values),
            values_of(ids.offsets),
            values_of(lengths.offsets),
            values_of(lengths.values),
            values_of(weights.values),
            batch,
        )

    def example(self, row: int) -> Example:
        start, end = self.offsets[row], self.offsets[row + 1]
        first, last = self.run_offsets[row], self.run_offsets[row + 1]
        source, *rest = (self.rest.column(name)[row].as_py() for name in ("source", "row", "part", "line"))
        token_ids: Any = self.token_ids[start:end]
        weights: Any = np.repeat(self.run_weights[first:last], self.run_lengths[first:last])
        return Example(
            token_ids,
            weights,
            place=None if source is None else Place(source, *rest),
            turns=tuple(self.rest.column("turns")[row].as_py()),
            shortened=self.rest.column("shortened")[row].as_py(),
            escaped=self.rest.column("escaped")[row].as_py(),
            side=_SIDE_NAMES[self.rest.column("side")[row].as_py()],
        )


class ExampleStore(Sequence[Example]):
    """A sequence of examples, each read from the file when it is indexed.

    Attributes:
        num_tokens: Length of each example.
        trained_weight: Sum of each example's weights.
        sides: 1 for a chosen example, -1 for a rejected one, 0 where there is no preference. With a reading of pairs,
            examples 2i and 2i + 1 are a pair, the chosen one first.

    Example:
        >>> store = ExampleStore.from_examples([Example([5, 6, 7], [0.0, 1.0, 1.0])])
        >>> len(store), store[0].weights.tolist(), store.num_tokens.tolist(), store.trained_weight.tolist()
        (1, [0.0, 1.0, 1.0], [3], [2.0])
    """

    def __init__(
        self,
        batches: Sequence[pa.RecordBatch],
        index: npt.NDArray[np.int64] | None = None,
        *,
        fingerprint: str = "",
        ledger: Ledger | None = None,
        use: FileUse | None = None,
    ) -> None:
        """Make a store from record batches of `SCHEMA`.

        Args:
            batches: The record batches.
            index: Indices of the examples in this store, in order; None for all of them.
            fingerprint: Fingerprint of the store's data, with the name of the split.
            ledger: The account of its rows.
            use: Keeps the folder of the store from being removed while this store lives.
        """
        self._use = use
        self._batches = [_Batch.of(batch) for batch in batches]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
        self._index: npt.NDArray[np.int64] = np.arange(self._starts[-1]) if index is None else index
        self.fingerprint = fingerprint
        self.ledger = ledger
        lengths = [np.diff(batch.offsets) for batch in self._batches]
        weights = [values_of(batch.rest.column("trained_weight")) for batch in self._batches]
        self.num_tokens: npt.NDArray[np.int32] = _joined(lengths, np.int32)[self._index]
        self.trained_weight: npt.NDArray[np.float32] = _joined(weights, np.float32)[self._index]
        sides = [values_of(batch.rest.column("side")) for batch in self._batches]
        self.sides: npt.NDArray[np.int8] = _joined(sides, np.int8)[self._index]

    @classmethod
    def open(cls, folder: str | Path, *, split: Split = "train") -> ExampleStore:
        """Open the folder of a store. The file is mapped into memory, not read.

        Args:
            folder: A folder that `StoreWriter` wrote.
            split: The examples to train on, or the held-out ones.

        Raises:
            DataError: If the folder holds no complete store, or one of another version.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / STORE).read_text(encoding="utf-8"))
            ledger = Ledger.from_json(json.loads((folder / LEDGER).read_text(encoding="utf-8"))[split])
            use = FileUse(folder / EXAMPLES)
            index = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
            with pa.memory_map(str(folder / EXAMPLES)) as mapped:
                file = pa.ipc.open_file(mapped)
                batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise DataError(
                f"{folder}: no complete store of prepared data ({reason}). Run instil prepare again."
            ) from None
        if header["version"] != VERSION:
            raise DataError(
                f"{folder}: store of version {header['version']}. Expected version {VERSION}. Run instil prepare again."
            )
        with contextlib.suppress(OSError):  # a folder that others share may be read-only
            os.utime(folder / STORE)  # when it was last used, for `instil clean`
        return cls(batches, index, fingerprint=f"{header['fingerprint']}-{split}", ledger=ledger, use=use)

    @classmethod
    def from_examples(cls, examples: Sequence[Example], *, fingerprint: str = "memory") -> ExampleStore:
        """Make a store in memory."""
        return cls([pack(examples)] if examples else [], fingerprint=fingerprint)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, position: Any) -> Any:
        """Return one example, or a store with the examples of a slice."""
        if isinstance(position, slice):
            return self.select(np.arange(len(self))[position])
        try:
            position = whole_number(position)
        except TypeError:
            raise DataError(f"index: found {position!r:.60}. Expected a whole number or a slice. Correct it.") from None
        if not -len(self) <= position < len(self):
            raise IndexError(f"example {position} of {len(self)}")
        number = int(self._index[position])
        batch = bisect_right(self._starts, number) - 1
        return self._batches[batch].example(number - self._starts[batch])

    def __iter__(self) -> Iterator[Example]:
        return (self[position] for position in range(len(self)))

    def to_torch(self) -> TorchExamples:
        """Return the examples as a `torch.utils.data.Dataset`, for a loop of your own or another trainer."""
        # Why: the store itself is read without torch.
        from instil.preparation.torch_examples import TorchExamples

        return TorchExamples(self)

    def select(self, positions: Sequence[int] | npt.NDArray[Any]) -> ExampleStore:
        """Return a store with these examples, in this order, without copying them."""
        index = np.asarray(self._index)[np.asarray(positions, dtype=np.int64)]
        return ExampleStore(
            [batch.rest for batch in self._batches],
            index,
            fingerprint=self.fingerprint,
            ledger=self.ledger,
            use=self._use,
        )


def _joined(pieces: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=kind)
