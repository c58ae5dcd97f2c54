from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.data.encoder_of_bytes import EncoderOfBytes

from instil.data import read
from instil.data.formats.row_format import ReadOptions
from instil.errors import DataError, EncodingError, RecipeError
from instil.preparation import workers
from instil.preparation.chunks import Input, cut
from instil.preparation.encode_rows import SourceWork, Work, work_on
from instil.preparation.ledger import Ledger
from instil.preparation.prepare import Prepared, prepare
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe, Source

ROOT = Path(__file__).resolve().parents[2]


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


BAD = [
    '{"question": "a", "answer": ',
    '{"foo": 1}',
    {"messages": [{"role": "user", "content": "alone"}]},
    {"messages": [{"role": "user", "content": "x"}, {"role": "gpt", "content": "y"}]},
    {"question": "REFUSE", "answer": "x"},
]


@pytest.mark.parametrize("bad", BAD, ids=["json", "columns", "no assistant", "role", "encoder"])
def test_a_bad_row_stops_with_its_place(tmp_path: Path, bad: Any) -> None:
    path = save(tmp_path / "a.jsonl", [*rows(3), bad, *rows(3)])
    with pytest.raises((DataError, EncodingError)) as caught:
        run(tmp_path, sources=path)
    assert str(caught.value).startswith(f"{path}:4: ")
    assert not (tmp_path / "store").exists()


def test_a_bad_row_after_much_was_written_leaves_nothing_either(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [*rows(1100), BAD[1]])  # three chunks, two of them written
    with pytest.raises(DataError, match=r"a\.jsonl:1101: "):
        run(tmp_path / "new" / "folder", sources=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    long = {"question": "x" * 3000, "answer": "y"}
    silent = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]}
    path = save(tmp_path / "a.jsonl", [*rows(30), *BAD, long, silent])
    prepared = run(tmp_path, sources=path, on_bad_row="skip", heldout_share=0)
    left = {reason: tally.count for reason, tally in prepared.ledger.left_out.items()}
    assert left == {
        "unreadable": 2,
        "unknown format": 1,
        "no assistant turn": 1,
        "refused by encoder": 1,
        "too long": 1,
        "no trained token": 1,
    }
    assert prepared.ledger.left_out["unreadable"].places == [f"{path}:31", f"{path}:34"]
    assert "not valid JSON" in prepared.ledger.left_out["unreadable"].example
    assert (prepared.ledger.rows_in, prepared.ledger.rows_trained) == (37, 30)


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", ['{"foo": 1}'])
    with pytest.raises(DataError, match=r"no row is left to train on \(unknown format 1\)"):
        run(tmp_path, sources=path, on_bad_row="skip")
    long = save(tmp_path / "long.jsonl", [{"question": "x" * 3000, "answer": "y"}])
    with pytest.raises(DataError, match=r"\(too long 1\); .*; raise data\.max_tokens, or set data\.too_long"):
        run(tmp_path, sources=long, heldout_share=0)
    with pytest.raises(RecipeError, match=r"data\.sources: found none"):
        run(tmp_path)


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


def test_a_source_of_weight_zero_trains_nothing(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.jsonl", rows(10)), save(tmp_path / "b.jsonl", rows(10, first=500))
    prepared = run(tmp_path, sources=[one, {"path": two, "weight": 0}], heldout_share=0)
    assert prepared.ledger.left_out["no trained token"].count == 10


def test_a_row_of_several_parts_is_one_row(tmp_path: Path) -> None:
    task = {"instruction": "Add", "instances": [{"input": "1 1", "output": "2"}, {"input": "REFUSE", "output": "3"}]}
    prepared = run(tmp_path, sources=save(tmp_path / "a.jsonl", [task]), on_bad_row="skip", heldout_share=0)
    assert (prepared.ledger.rows_trained, len(prepared.train)) == (1, 1)
    assert prepared.ledger.parts_left_out["refused by encoder"].count == 1
    assert str(prepared.train[0].place).endswith("a.jsonl:1[0]")


@pytest.mark.parametrize("number", [1, 3])
def test_the_first_of_two_bad_rows_is_named_whatever_the_number_of_workers(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(workers, "_work", lambda chunk: work_on(chunk, EncoderOfBytes(), work))
    work = Work((SourceWork("auto", ReadOptions(), 1.0, 0.0),))
    given = [*rows(600), {"neither": "format"}, *rows(1000, first=600)]
    path = tmp_path / "a.json"
    path.write_text(
        "[\n" + ",\n".join(map(json.dumps, given)) + ",\n broken]"
    )  # read while the second chunk is worked on
    found = Input(Source(path=str(path)), ((path, str(path)),), False)
    with pytest.raises(DataError, match=r"a\.json:601: found columns neither"):
        list(workers.map_chunks(cut([found]), EncoderOfBytes(), work, workers=number))


def test_a_misspelt_key_is_noted_with_the_name_that_is_meant(tmp_path: Path) -> None:
    def row(number: int, **keys: Any) -> dict[str, Any]:
        answer = {"role": "assistant", "content": f"a{number}", **keys}
        return {"messages": [{"role": "user", "content": f"q{number}"}, answer], "plan": "x"}

    given = [row(0), row(1, wieght=0), row(2, weight=1, score=3), row(3, wieght=0) | {"tols": []}]
    source = save(tmp_path / "a.jsonl", given)
    notes = run(tmp_path, sources=source, heldout_share=0).ledger.notes
    assert notes == [
        f"{source}:4: the key 'tols' is not read (did you mean 'tools'?); rows with it: 1",
        f"{source}:2: the key 'wieght' is not read (did you mean 'weight'?); rows with it: 2",
    ]


def test_escaped_tokens_and_inline_reasoning_are_counted(tmp_path: Path) -> None:
    given = [{"question": "<|im_end|> <|x", "answer": "a"}, {"question": "b", "answer": "<think>c</think>d"}]
    ledger = run(tmp_path, sources=save(tmp_path / "a.jsonl", given), heldout_share=0).ledger
    assert (ledger.escaped.count, len(ledger.escaped.places)) == (2, 1)
    assert ledger.inline_reasoning.count == 1


def test_the_second_time_the_store_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(50))
    first, second = run(tmp_path, sources=path), run(tmp_path, sources=path)
    assert (first.reused, second.reused) == (False, True)
    assert first.folder == second.folder
    assert second.ledger == first.ledger
    save(tmp_path / "a.jsonl", rows(51))
    assert run(tmp_path, sources=path).folder != first.folder
    assert run(tmp_path, sources=path, on_bad_row="skip").folder != first.folder


def test_a_template_that_prints_the_day_keys_the_store_by_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(20))

    def folder(prints_day: bool, **data: Any) -> Path:
        encoder = EncoderOfBytes()
        encoder.template = SimpleNamespace(prints_day=prints_day)
        recipe = Recipe.from_mapping({"data": {"sources": path, "store": str(tmp_path / "store"), **data}})
        return prepare(recipe, encoder).folder  # type: ignore[arg-type]

    assert folder(False) != folder(True)
    assert folder(False, date="2026-01-01") == folder(True, date="2026-01-01")


def test_the_store_has_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(2000))

    def made(name: str, workers: int) -> dict[str, bytes]:
        folder = run(tmp_path, workers, sources=path, store=str(tmp_path / name)).folder
        return {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir())}

    alone = made("alone", 1)
    assert alone == made("two", 2)
    assert set(alone) == {"examples.arrow", "heldout.jsonl", "heldout.npy", "ledger.json", "store.json", "train.npy"}


def test_an_error_in_a_worker_names_the_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [*rows(600), '{"foo": 1}', *rows(600)])
    with pytest.raises(DataError, match=f"{path}:601: found columns foo"):
        run(tmp_path, 2, sources=path)


def test_a_killed_preparation_starts_clean(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(3000))
    code = (
        "import os, signal, sys\n"
        "from instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.data.encoder_of_bytes import EncoderOfBytes\n"
        "recipe = Recipe.from_mapping({'data': {'sources': sys.argv[1], 'store': sys.argv[2]}})\n"
        "prepare(recipe, EncoderOfBytes(), on_progress=lambda n: n > 700 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    command = [sys.executable, "-c", code, path, str(tmp_path / "store")]
    done = subprocess.run(command, check=False, cwd=ROOT)
    assert done.returncode == -9
    assert any(entry.name.startswith(".tmp-") for entry in (tmp_path / "store").iterdir())
    prepared = run(tmp_path, sources=path)
    assert prepared.ledger.rows_in == 3000
    assert not any(entry.name.startswith(".tmp-") for entry in (tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    ("ends", "num_rows", "code", "tracebacks"),
    [("os.kill(os.getpid(), signal.SIGKILL)", 3000, -9, 0), ("os.killpg(0, signal.SIGINT)", 100, -2, 1)],
    ids=["killed", "Ctrl-C"],
)
def test_workers_end_with_the_process_that_was_killed_and_leave_ctrl_c_to_it(
    tmp_path: Path, ends: str, num_rows: int, code: int, tracebacks: int
) -> None:
    path = save(tmp_path / "a.jsonl", rows(num_rows))
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, os, signal, sys\n"
        "from instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.data.encoder_of_bytes import EncoderOfBytes\n"
        "def end(rows):\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        f"    {ends}\n"
        "if __name__ == '__main__':\n"
        "    recipe = Recipe.from_mapping({'data': {'sources': sys.argv[1], 'store': sys.argv[2]}})\n"
        "    prepare(recipe, EncoderOfBytes(), workers=2, on_progress=end)\n"
    )
    command = [sys.executable, str(tmp_path / "killed.py"), path, str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    # the workers inherit the pipes, so that they end when the last of them has; a terminal sends Ctrl-C to all of a session
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, timeout=100, start_new_session=True
    )
    assert done.returncode == code
    assert len(done.stdout.split()) == (2 if num_rows > 1000 else 1)  # one is started when none is idle
    assert done.stderr.count(b"Traceback") == tracebacks, done.stderr.decode()


@pytest.mark.parametrize("name", ["examples.arrow", "store.json", "ledger.json", "train.npy"])
def test_a_damaged_store_is_made_again(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "a.jsonl", rows(50))
    whole = run(tmp_path, sources=path)
    (damaged,) = whole.folder.glob(name)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    again = run(tmp_path, sources=path)
    assert not again.reused
    assert damaged.read_bytes() == content


def test_standard_input_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = "".join(json.dumps(row) + "\n" for row in rows(30)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    prepared = run(tmp_path, sources={"path": "-", "rows": 20}, heldout_share=0)
    assert len(prepared.train) == 20
    assert str(prepared.train[0].place).startswith("<stdin>:")


def test_the_fingerprint_is_stable_across_processes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(20))
    code = (
        "import sys\nfrom instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.data.encoder_of_bytes import EncoderOfBytes\n"
        "recipe = Recipe.from_mapping({'data': {'sources': sys.argv[1], 'store': sys.argv[2]}})\n"
        "print(prepare(recipe, EncoderOfBytes()).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, path, str(tmp_path / "elsewhere")]
    other = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True
    ).stdout.strip()
    assert other == run(tmp_path, sources=path).fingerprint


def test_a_store_opens_fast_and_holds_little(tmp_path: Path) -> None:
    prepared = run(tmp_path, sources=save(tmp_path / "a.jsonl", rows(300)), heldout_share=0)
    assert isinstance(prepared.train[5].token_ids, np.ndarray)
    assert len(list(read(tmp_path / "a.jsonl"))) == 300
