"""Four examples, and a store of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from instil.conversation import Example, Place
from instil.preparation.ledger import Ledger
from instil.preparation.store import pack
from instil.preparation.store_writer import StoreWriter

EXAMPLES = [
    Example([5, 6, 7, 8], [0, 0, 1, 0.5], Place("a.jsonl", 1), (1,), None, 2),
    Example([], [], None),
    Example([9], [0.0], Place("a.jsonl", 2, 1), (1, 3), "kept_last_turns"),
    Example([1, 2, 3], [0.0, 1.0, 1.0], Place("b.json", 7, None, 42), (0,), side="rejected"),
]


def write(folder: Path, examples: list[Example] = EXAMPLES) -> Path:
    with StoreWriter(folder, fingerprint="f") as writer:
        writer.write(pack(examples[:2]))
        writer.write(pack(examples[2:]))
        ledgers = {"train": Ledger(rows_in=3), "heldout": Ledger()}
        return writer.finish(train=np.array([3, 0, 0]), heldout=np.array([2]), ledgers=ledgers)
