"""Claims about the split and what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.preparation.encoder_of_bytes import EncoderOfBytes
from tests.preparation.prepared_data import rows, run, save, text

from instil.conversation import Place
from instil.data.formats.row_format import ReadOptions
from instil.preparation.accounting import Account
from instil.preparation.chunks import Chunk, Input
from instil.preparation.encode_rows import SourceWork, Work, encode_chunk
from instil.recipe import DataSettings, Source


def test_every_row_is_trained_or_held_out(tmp_path: Path) -> None:
    prepared = run(tmp_path, sources=save(tmp_path / "a.jsonl", rows(1000)))
    assert len(prepared.train) + len(prepared.heldout) == 1000
    assert 20 < len(prepared.heldout) < 90
    assert prepared.ledger.rows_in == 1000
    assert prepared.ledger.rows_held_out == len(prepared.heldout)
    asked = [conversation.messages[0].content for conversation in prepared.heldout_conversations]
    shown = [text(prepared.heldout, n) for n in range(len(asked))]
    assert [one.startswith(two) for one, two in zip(shown, asked, strict=True)] == [True] * len(asked)
    assert prepared.heldout_conversations[0].place == prepared.heldout[0].place
    order = [example.place.row for example in prepared.train]
    assert order == sorted(order)


def test_a_row_falls_on_the_same_side_whatever_stands_beside_it(tmp_path: Path) -> None:
    def held(name: str, given: list[Any]) -> set[str]:
        prepared = run(tmp_path, sources=save(tmp_path / name, given))
        return {text(prepared.heldout, n) for n in range(len(prepared.heldout))}

    few, many = held("few.jsonl", rows(500)), held("many.jsonl", rows(700, first=300)[::-1] + rows(300))
    every = {"".join(row.values()) for row in rows(500)}
    assert few
    assert few == many & every


def test_the_held_out_maximum_keeps_equal_rows_together(tmp_path: Path) -> None:
    given = [row for row in rows(400) for _ in range(3)]
    prepared = run(tmp_path, sources=save(tmp_path / "a.jsonl", given), heldout_share=0.5, heldout_max=10)
    held = [text(prepared.heldout, n) for n in range(len(prepared.heldout))]
    assert len(held) == 9
    assert len(set(held)) == 3
    assert not set(held) & {text(prepared.train, n) for n in range(len(prepared.train))}
    assert len(prepared.heldout_conversations) == 9


def test_given_held_out_rows_are_used_and_overlap_is_reported(tmp_path: Path) -> None:
    train, test = save(tmp_path / "a.jsonl", rows(100)), save(tmp_path / "b.jsonl", rows(30, first=95))
    prepared = run(tmp_path, sources=train, heldout=test)
    assert (len(prepared.train), len(prepared.heldout)) == (100, 30)
    assert prepared.ledger.overlap.count == 5
    assert prepared.ledger.overlap.places[0] == f"{train}:96"
    few = run(tmp_path, sources=train, heldout=test, heldout_max=10)
    assert len(few.heldout) == 10
    assert few.heldout_ledger.left_out["over heldout_max"].count == 20


def test_duplicates_are_counted_and_left_out_on_demand(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(20) + rows(5))
    kept = run(tmp_path, sources=path, heldout_share=0)
    assert (len(kept.train), kept.ledger.duplicates.count) == (25, 5)
    once = run(tmp_path, sources=path, heldout_share=0, deduplicate=True)
    assert len(once.train) == 20
    assert once.ledger.left_out["duplicate"].places == [f"{path}:{n}" for n in range(21, 26)]
    assert (once.ledger.rows_in, once.ledger.rows_trained) == (25, 20)


def test_sources_are_mixed_by_rows_repetition_and_weight(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.jsonl", rows(100)), save(tmp_path / "b.jsonl", rows(10, first=500))
    prepared = run(
        tmp_path, sources=[{"path": one, "rows": 40}, {"path": two, "repeat": 3, "weight": 0.5}], heldout_share=0
    )
    assert len(prepared.train) == 40 + 30
    assert prepared.ledger.rows_in == 110
    assert prepared.ledger.left_out["not drawn"].count == 60
    assert (prepared.ledger.examples, prepared.ledger.examples_an_epoch) == (50, 70)
    assert set(prepared.train[69].weights.tolist()) == {0.0, 0.5}
    drawn = [example.place.row for example in prepared.train[:40]]
    assert drawn == sorted(set(drawn))
    assert drawn != list(range(1, 41))
    assert text(prepared.train, 40) == text(prepared.train, 50) == "What is 500 + 500?It is 1000."


def test_a_misspelt_key_is_noted_with_the_name_that_is_meant(tmp_path: Path) -> None:
    def row(number: int, **keys: Any) -> dict[str, Any]:
        answer = {"role": "assistant", "content": f"a{number}", **keys}
        return {"messages": [{"role": "user", "content": f"q{number}"}, answer], "plan": "x"}

    given = [row(0), row(1, wieght=0), row(2, weight=1, score=3), row(3, wieght=0) | {"tols": []}]
    source = save(tmp_path / "a.jsonl", given)
    notes = run(tmp_path, sources=source, heldout_share=0).ledger.notes
    assert notes == [
        f"{source}:4: the key 'tols' is not read (did you mean 'tools'?). Rows with this key: 1. Rename it if that is meant.",
        f"{source}:2: the key 'wieght' is not read (did you mean 'weight'?). Rows with this key: 2. Rename it if that is meant.",
    ]


def test_escaped_tokens_and_inline_reasoning_are_counted(tmp_path: Path) -> None:
    given = [{"question": "<|im_end|> <|x", "answer": "a"}, {"question": "b", "answer": "<think>c</think>d"}]
    ledger = run(tmp_path, sources=save(tmp_path / "a.jsonl", given), heldout_share=0).ledger
    assert (ledger.escaped.count, len(ledger.escaped.places)) == (2, 1)
    assert ledger.inline_reasoning.count == 1


def test_the_account_keeps_no_batch_in_memory() -> None:
    """A view of one column of a batch that was read from a file kept all of its token ids."""
    chunk = Chunk(0, tuple(Place("a.jsonl", n + 1) for n in range(3)), tuple(rows(3)))
    encoded = encode_chunk(chunk, EncoderOfBytes(), Work((SourceWork("auto", ReadOptions(), 1.0, 0.0),)))
    account = Account([Input(Source(path="a.jsonl"), (), False)], DataSettings())
    account.add(encoded)
    kept = [piece for pieces in account._examples.values() for piece in pieces]
    assert len(kept) == 6
    assert all(piece.base is None and len(piece) == 3 for piece in kept)
