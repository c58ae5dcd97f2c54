"""Rows from memory: every kind of source, their places, and what is said of a wrong one."""

from __future__ import annotations

import datetime
import json

import pytest

import instil
from instil.conversation import Conversation, Message, Place
from instil.data.memory_rows import find_saved_rows, save_rows
from instil.errors import DataError

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(3)]
ANSWERS = ["1", "2", "3"]


def answers(source: object) -> list[object]:
    return [conversation.messages[-1].content for conversation in instil.read(source)]


def sources() -> dict[str, object]:
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    import pyarrow as pa

    table = datasets.Dataset.from_list(ROWS)
    return {
        "list": ROWS,
        "tuple": tuple(ROWS),
        "generator": (row for row in ROWS),
        "conversations": list(instil.read(ROWS)),
        "messages": [list(conversation.messages) for conversation in instil.read(ROWS)],
        "rows of messages": [{"messages": conversation.messages} for conversation in instil.read(ROWS)],
        "dicts of messages": [
            [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
            for row in ROWS
        ],
        "dataset": table,
        "numpy dataset": table.with_format("numpy"),
        "iterable dataset": table.to_iterable_dataset(),
        "frame": pandas.DataFrame(ROWS, index=[7, 7, 7]),
        "frame with gaps": pandas.DataFrame([{**row, "note": None, "score": float("nan")} for row in ROWS]),
        "arrow table": pa.Table.from_pylist(ROWS),
    }


def test_every_kind_of_source_is_read_and_saved_to_the_same_rows(tmp_path):
    kinds = sources()
    assert len(kinds) == 13
    for name, source in kinds.items():
        if name != "generator":
            assert answers(source) == ANSWERS, name
        saved = find_saved_rows(save_rows(source, tmp_path), tmp_path)
        assert answers(str(saved)) == ANSWERS, name
    assert not list(tmp_path.glob(".*"))


def test_the_name_of_saved_rows_depends_on_their_content_alone(tmp_path):
    assert save_rows(ROWS, tmp_path) == save_rows((dict(row) for row in ROWS), tmp_path)
    assert save_rows(ROWS, tmp_path) != save_rows(ROWS[::-1], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_places_are_indices_of_python():
    assert [str(conversation.place) for conversation in instil.read(ROWS)] == ["rows[0]", "rows[1]", "rows[2]"]
    assert str(Place("rows", 13, 1)) == "rows[12][1]"
    errors: list[str] = []
    rows = [*ROWS, {"nothing": 1}, *ROWS]
    assert len(list(instil.read(rows, on_bad_row="skip", on_error=lambda error: errors.append(str(error))))) == 6
    assert [error.partition(": ")[0] for error in errors] == ["rows[3]"]


def test_dates_and_arrays_become_json(tmp_path):
    numpy = pytest.importorskip("numpy")
    row = {**ROWS[0], "day": datetime.date(2024, 1, 2), "scores": numpy.arange(2), "n": numpy.int64(3)}
    saved = find_saved_rows(save_rows([row], tmp_path), tmp_path)
    assert json.loads(saved.read_text()) == {**ROWS[0], "day": "2024-01-02", "scores": [0, 1], "n": 3}


def broken_generator():
    yield ROWS[0]
    raise KeyError("lost")


def in_itself() -> dict[str, object]:
    row: dict[str, object] = {**ROWS[0]}
    row["self"] = [row]
    return row


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([ROWS[0], {**ROWS[1], "score": float("nan")}], "rows[1]: column 'score' holds NaN, which JSON cannot hold"),
        ([{**ROWS[0], "image": b"png"}], "rows[0]: column 'image' holds bytes, which JSON cannot hold"),
        ([{**ROWS[0], "tags": {1, 2}}], "rows[0]: column 'tags' holds a set, which JSON cannot hold"),
        ([{**ROWS[0], "answer": "\ud83d"}], "rows[0]: column 'answer' holds half a surrogate pair, which"),
        ([{**ROWS[0], 5: "x"}], "rows[0]: found the column 5"),
        ([in_itself()], "rows[0]: column 'self' holds values nested too deeply, or in themselves"),
        ([ROWS[0], "text"], "rows[1]: found a text"),
        ([ROWS[0], None], "rows[1]: found null"),
        (ROWS[0], "found one dict"),
        ([{"role": "user", "content": "Hi"}], "rows[0]: found one message"),
        ([Message("user", "Hi")], "rows[0]: found one message"),
        ([], "rows: holds no row"),
        (broken_generator(), "rows[1]: the source of the rows raised KeyError: 'lost'"),
        (None, "found null"),
        (5, "found a number"),
        (b"rows.jsonl", "found bytes"),
        (dict, "found a type"),
    ],
)
def test_a_wrong_source_is_named(tmp_path, source, words):
    with pytest.raises(DataError) as error:
        save_rows(source, tmp_path)
    assert words in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_with_splits_and_a_frame_with_one_name_twice_are_named():
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    with pytest.raises(DataError, match="a DatasetDict with the splits 'train'"):
        instil.read(splits)
    with pytest.raises(DataError, match="two columns 'a'"):
        list(instil.read(pandas.DataFrame([["x", "y"]], columns=["a", "a"])))


def test_rows_in_any_format_are_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [ROWS[0], {"instruction": "Say hi.", "output": "hi"}, Conversation((Message("assistant", "Hi"),))]
    assert instil.write(rows, path) == 3
    assert answers(path) == ["1", "hi", "Hi"]
    assert instil.write([], path) == 0
    with pytest.raises(DataError, match=r"rows\[0\]: found a number"):
        instil.write([1], path)
    assert path.read_text() == ""
    with pytest.raises(DataError, match="found the path"):
        instil.write("rows.jsonl", path)
    with pytest.raises(DataError, match="found a list as the file"):
        instil.write(path=ROWS, rows=ROWS)
