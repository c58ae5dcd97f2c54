"""Rows, files and stores for the tests of preparation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.preparation.encoder_of_bytes import EncoderOfBytes

from instil.preparation.ledger import Ledger
from instil.preparation.prepare import Prepared, prepare
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe


def rows(number: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}."} for n in range(first, first + number)]


def save(path: Path, given: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" if not isinstance(row, str) else row + "\n" for row in given))
    return str(path)


def run(tmp_path: Path, workers: int | None = None, **data: Any) -> Prepared:
    data = {"store": str(tmp_path / "store"), **data}
    recipe = Recipe.from_mapping({"data": data})
    prepared = prepare(recipe, EncoderOfBytes(), workers=workers)  # type: ignore[arg-type]
    check(prepared)
    return prepared


def check(prepared: Prepared) -> None:
    """Every ledger balances and says what the stores hold."""
    for store in (prepared.train, prepared.heldout):
        ledger = store.ledger
        assert ledger is not None
        ledger.assert_balanced()
        saved = ledger.to_json()
        assert saved["rows_in"] == saved["rows_trained"] + saved["rows_left_out"]
        assert ledger.examples_an_epoch == len(store)
        assert ledger.rows_trained <= ledger.examples
        assert Ledger.from_json(json.loads(json.dumps(saved))) == ledger


def text(store: ExampleStore, position: int) -> str:
    return bytes(store[position].token_ids.tolist()).decode()
