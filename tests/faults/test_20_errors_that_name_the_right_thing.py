"""An error names the column, the value and the remedy that fit: tables with values that JSON lacks, rows by id, patterns."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.inspection.small_chat import small_chat
from tests.training.command_line import exit_code

import instil
from instil.data import read
from instil.errors import DataError, FormatError, ModelError
from instil.inspection.inspection import Inspection
from instil.preparation.prepare import prepare
from instil.recipe import Recipe

pa = pytest.importorskip("pyarrow")
QUESTIONS, ANSWERS = ["Sea of Peru?", "Sea of Oman?"], ["Pacific", "Arabian"]
TURNS = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": ANSWERS[0]}]
ROW = {"question": QUESTIONS[0], "answer": ANSWERS[0]}


def _parquet(path: Path, **columns: Any) -> Path:
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    return path


def _with_column(path: Path, values: Any) -> Path:
    return _parquet(path, question=QUESTIONS, answer=ANSWERS, more=values)


UNWRITABLE = {
    "bytes": ([b"\xff\x00", b"a"], "1: column 'more' holds bytes, which JSON"),
    "image": ([{"bytes": b"\x89PNG", "path": "a.png"}] * 2, "1: column 'more' holds bytes (more.bytes), which JSON"),
    "images": ([[{"bytes": b"\x89PNG"}]] * 2, "1: column 'more' holds bytes (more[0].bytes), which JSON"),
    "map": (
        pa.array([[("a", [])], [("page", [b"x"])]], pa.map_(pa.string(), pa.list_(pa.binary()))),
        "2: column 'more' holds bytes (more.page[0]), which JSON",
    ),
    "duration": ([datetime.timedelta(hours=1)] * 2, "1: column 'more' holds a timedelta, which JSON"),
    "infinite": ([1.0, float("inf")], "2: column 'more' holds an infinite number, which JSON"),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_convert_and_fix_name_the_column_that_json_cannot_hold(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, words = UNWRITABLE[kind]
    path, out = _with_column(tmp_path / "rows.parquet", values), tmp_path / "out.jsonl"
    for command in (
        ("convert", path, out, "--to", "messages"),
        ("inspect", path, "--fix", out, "--template", "chatml"),
    ):
        assert exit_code(*map(str, command)) == 2
        error = capsys.readouterr().err
        assert f"error: {path}:{words} cannot hold. Expected text, numbers" in error, command
        assert "Drop or convert that column." in error
        assert "--to messages" not in error
        assert not out.exists()


def test_such_a_column_does_not_stop_training(tmp_path: Path) -> None:
    sources = [str(_with_column(tmp_path / f"{kind}.parquet", values)) for kind, (values, _) in UNWRITABLE.items()]
    data = {"sources": sources, "heldout_share": 0.5, "store": str(tmp_path / "store")}
    prepared = prepare(Recipe.from_mapping({"data": data}, source="test"), small_chat())
    assert prepared.ledger.rows_in == 2 * len(sources)
    assert prepared.ledger.rows_trained + len(prepared.heldout_conversations) == 2 * len(sources)


def test_dates_decimals_and_maps_are_written_as_text_and_objects(tmp_path: Path) -> None:
    columns = {
        "day": [datetime.date(2020, 1, 2)] * 2,
        "at": [datetime.datetime(2020, 1, 2, 3, 4)] * 2,
        "price": [decimal.Decimal("12.30")] * 2,
        "tags": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        "history": [[{"day": datetime.date(2020, 1, 2)}]] * 2,
    }
    out = tmp_path / "out.jsonl"
    path = _parquet(tmp_path / "rows.parquet", question=QUESTIONS, answer=ANSWERS, **columns)
    assert exit_code("convert", str(path), str(out)) == 0
    row = json.loads(out.read_text().splitlines()[0])
    assert row["price"] == "12.30"
    assert (row["day"], row["at"]) == ("2020-01-02", "2020-01-02T03:04:00")
    assert (row["tags"], row["history"]) == ({"a": 1}, [{"day": "2020-01-02"}])
    from_python = tmp_path / "python.jsonl"
    instil.write([{**ROW, "price": decimal.Decimal("12.30")}], from_python)
    assert json.loads(from_python.read_text())["price"] == "12.30"


def test_messages_that_are_maps_are_read(tmp_path: Path) -> None:
    kind = pa.list_(pa.map_(pa.string(), pa.string()))
    table = pa.table({"messages": pa.array([[list(turn.items()) for turn in TURNS]], kind)})
    path = _parquet(tmp_path / "rows.parquet", messages=table["messages"].combine_chunks())
    for source in (path, table):
        (conversation,) = read(source)
        assert [message.content for message in conversation.messages] == [QUESTIONS[0], ANSWERS[0]]


def test_a_map_with_a_key_twice_loses_nothing(tmp_path: Path) -> None:
    path = _with_column(
        tmp_path / "rows.parquet", pa.array([[("a", 1), ("a", 2)], []], pa.map_(pa.string(), pa.int64()))
    )
    assert next(read(path)).extra["more"] == [("a", 1), ("a", 2)]


BYTES_AS_TEXT: list[tuple[dict[str, Any], str]] = [
    ({"question": QUESTIONS, "answer": [b"a", b"b"]}, "column 'answer' holds bytes. Expected text"),
    ({"question": [b"a", b"b"], "answer": ANSWERS}, "('question' holds bytes)"),
    ({"text": [b"a", b"b"]}, "('text' holds bytes)"),
    ({"prompt": [b"a", b"b"], "completion": ANSWERS}, "('prompt' holds bytes)"),
    ({"prompt": QUESTIONS, "chosen": [b"a", b"b"], "rejected": ANSWERS}, "column 'chosen' holds bytes"),
    ({"messages": [[{**turn, "content": b"a"} for turn in TURNS]] * 2}, "message 1 has bytes for content"),
    ({"question": QUESTIONS, "answer": [datetime.date(2020, 1, 2)] * 2}, "column 'answer' holds a date. Expected text"),
]


@pytest.mark.parametrize(("columns", "words"), BYTES_AS_TEXT, ids=[",".join(columns) for columns, _ in BYTES_AS_TEXT])
def test_bytes_where_text_belongs_are_called_bytes(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = _parquet(tmp_path / "rows.parquet", **columns)
    with pytest.raises(DataError) as error:
        list(read(path))
    assert words in str(error.value)
    assert "data.columns" not in str(error.value)
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)], "store": str(tmp_path / "store")}}, source="test")
    (kind,) = Inspection.of(str(path), recipe).survey().findings.counts
    assert kind in ("unreadable", "unknown_format")


def test_bytes_in_rows_of_a_program_are_named_by_their_column() -> None:
    for row, words in (
        ({**ROW, "scan": {"page": [b"x"]}}, "rows[0]: column 'scan' holds bytes (scan.page[0]), which JSON"),
        ({"messages": [{**TURNS[0], "image": b"x"}, TURNS[1]]}, "column 'messages' holds bytes (messages[0].image)"),
        ([{**TURNS[0], "image": b"x"}, TURNS[1]], "rows[0]: holds bytes ([0].image), which JSON"),
        ({**ROW, "score": float("nan")}, "rows[0]: column 'score' holds NaN, which JSON"),
        ({**ROW, "at": {1, 2}}, "rows[0]: column 'at' holds a set, which JSON"),
        ({**ROW, "answer": "\ud83d"}, "rows[0]: column 'answer' holds half a surrogate pair, which JSON"),
        ({**ROW, "by": {("a", "b"): 1}}, "rows[0]: column 'by' holds a key of type tuple, which JSON"),
    ):
        with pytest.raises(DataError) as error:
            list(instil.read([row]))
        assert words in str(error.value)


WHOLE_DATA_SETS: dict[str, tuple[Any, str]] = {
    "rows by id": ({"q1": ROW, "q2": ROW}, "The rows are objects by id. Take them out, for example: jq -c '.[]'"),
    "one row by id": ({"q1": {"messages": TURNS}}, "jq -c '.[]'"),
    "wrapped by id": ({"version": 1, "data": {"q1": ROW, "q2": ROW}}, "inside 'data'. Take them out, for example: jq -c '.data[]'"),
    "wrapped twice": ({"version": 1, "data": {"rows": [ROW]}}, "jq -c '.data.rows[]'"),
    "a name that jq quotes": ({"my data": [ROW]}, "jq -c '[\"my data\"][]'"),
    "pandas by row number": ({"question": {"0": "a", "1": "b"}, "answer": {"0": "a", "1": "b"}}, "The columns are objects of equal length"),
    "pandas by column": ({"question": ["a", "b"], "answer": ["a", "b"]}, "The columns are lists of equal length"),
    "pandas split": ({"columns": ["question", "answer"], "index": [0, 1], "data": [["a", "b"], ["c", "d"]]}, "names of columns and lists of values"),
    "answers by question": ({f"What is the capital of country {n}?": "x" for n in range(40)}, "jq -c 'to_entries[]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_DATA_SETS)
def test_a_data_set_in_one_object_is_told_from_a_row(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, words = WHOLE_DATA_SETS[name]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(value, indent=1))
    assert exit_code("convert", str(path), str(tmp_path / "out.jsonl")) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Did you mean" not in error
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)], "store": str(tmp_path / "store")}}, source="test")
    with pytest.raises(DataError, match=r"rows\.json\[0\]: found columns"):
        prepare(recipe, small_chat())


def test_a_dict_of_rows_passed_from_python_names_what_to_pass() -> None:
    with pytest.raises(DataError, match=r"found one dict\. .* Pass list\(rows.values\(\)\)"):
        instil.read({"q1": ROW, "q2": ROW})
    with pytest.raises(DataError, match=r"use Dataset\.from_dict"):
        instil.read({"question": QUESTIONS, "answer": ANSWERS})


def test_the_first_row_of_a_table_is_named_where_its_header_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nSea of Peru?,Pacific\n")
    assert exit_code("inspect", str(path), "--template", "chatml", "--row", "1") == 2
    assert "has no row 1. Expected the number of a row (lines count from 1; its first row is line 2" in (
        capsys.readouterr().err
    )


def test_turns_inside_an_object_are_not_taken_for_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"id": 1, "chat": {"turns": TURNS}}])
    with pytest.raises(FormatError) as error:
        next(read(path))
    assert "jq" not in str(error.value)


def test_a_line_of_excel_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    for separator in (",", ";", "\t"):
        path = tmp_path / "rows.csv"
        path.write_text(f"sep={separator}\nquestion{separator}answer\nSea of Peru?{separator}Pacific\n")
        out = tmp_path / "out.jsonl"
        assert exit_code("convert", str(path), str(out)) == 0
        assert json.loads(out.read_text())["messages"] == TURNS


PATTERNS = {
    r".*layers\.0\..*(q|v)_proj": ["layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj"],
    "*_proj": ["down_proj", "gate_proj", "k_proj"],
    r"^model\..*\.(q|k)_proj$": ["k_proj, q_proj."],
    "[qv": ["This model has"],
}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("verb", ["plan", "train"])
def test_a_pattern_of_targets_is_called_one_and_what_it_matches_is_named(
    pattern: str, verb: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [ROW, {"question": QUESTIONS[1], "answer": ANSWERS[1]}])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "model": str(base),
                "data": {"sources": [str(rows)], "store": str(tmp_path / "store")},
                "adapter": {"kind": "lora", "targets": pattern},
                "output": str(tmp_path / "run"),
            }
        )
    )
    assert exit_code(verb, str(recipe)) == 2
    error = capsys.readouterr().err
    assert "is a pattern, and patterns are not taken. Expected names of layers" in error
    for words in PATTERNS[pattern]:
        assert words in error
    assert not (tmp_path / "run" / "model").exists()


def test_a_regular_expression_to_freeze_is_told_what_the_wildcards_are(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    from instil.model.freezing import freeze

    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(ModelError, match=r"matches no parameter\. Only \* and \? are wildcards\."):
        freeze(model, [r"model\.layers\.(0|1)\..*"])


def test_an_image_column_under_any_name_is_a_finding(tmp_path: Path) -> None:
    path = _with_column(tmp_path / "rows.parquet", [{"bytes": b"\x89PNG", "path": "a.png"}] * 2)
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)], "store": str(tmp_path / "store")}}, source="test")
    findings = Inspection.of(str(path), recipe).survey().findings
    assert findings.counts["unread_column"] == 2
    assert "'more' looks like an image or a sound" in findings.of_kind("unread_column")[0].seen
