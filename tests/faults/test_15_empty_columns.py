"""A column that holds nothing decides nothing: the row is read in the format of its filled columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import A, U, one
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code

from instil.conversation import Message
from instil.data.formats.registry import recognise
from instil.errors import DataError

TURNS = [{"role": "user", "content": "Which sea?"}, {"role": "assistant", "content": "The Baltic."}]
SHAREGPT = [{"from": "human", "value": "Which sea?"}, {"from": "gpt", "value": "The Baltic."}]
PAIR = (U("Which sea?"), A("The Baltic."))
NOTHING: tuple[Any, ...] = (None, "", [], " \n", {})
FILLED: dict[str, dict[str, Any]] = {
    "messages": {"messages": TURNS},
    "sharegpt": {"conversations": SHAREGPT},
    "alpaca": {"instruction": "Which sea?", "output": "The Baltic."},
    "prompt_completion": {"prompt": "Which sea?", "completion": "The Baltic."},
    "question_answer": {"question": "Which sea?", "answer": "The Baltic."},
}
DECIDING = (
    ("chosen", "rejected"),
    ("messages",),
    ("conversations",),
    ("conversation",),
    ("instruction", "input", "output"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("text",),
)


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
@pytest.mark.parametrize("name", FILLED)
def test_empty_columns_of_other_formats_decide_nothing(name: str, nothing: Any) -> None:
    checked = 0
    for columns in DECIDING:
        if columns[0] in FILLED[name]:
            continue
        for row in (dict.fromkeys(columns, nothing) | FILLED[name], FILLED[name] | dict.fromkeys(columns, nothing)):
            if not row.items() >= FILLED[name].items():  # prompt/output and the like: the other format's own column
                continue
            found = recognise(row)
            assert found is not None, row
            assert found[0].name == name, row
            assert one(row).messages == PAIR, row
            checked += 1
    assert checked >= 8


def test_the_filled_one_of_several_answers_is_read() -> None:
    """An empty ``output`` beside a filled ``response`` trained the model to answer nothing."""
    assert one({"instruction": "Which sea?", "output": "", "response": "The Baltic."}).messages == PAIR
    assert one({"prompt": "Which sea?", "completion": None, "response": "The Baltic."}).messages == PAIR
    assert one({"question": "Which sea?", "answer": "", "response": "The Baltic."}).messages == PAIR
    assert one({"instruction": "Which sea?", "input": "", "context": "In the north.", "response": "A."}).messages == (
        U("Which sea?\nIn the north."),
        A("A."),
    )


def test_an_empty_answer_stays_an_answer() -> None:
    """Only other formats lose their say: a question beside an empty answer is that, not plain text."""
    row = {"instruction": "Which sea?", "input": "", "output": "", "text": "Below is an instruction."}
    assert one(row).messages == (U("Which sea?"), A(""))
    for pair in ({"chosen": [], "rejected": []}, {"chosen": None, "rejected": [{"role": "assistant", "content": "b"}]}):
        with pytest.raises(DataError):
            one({"prompt": TURNS, **pair})  # one side of a pair is no conversation
    with pytest.raises(DataError, match="empty list of messages"):
        one({"messages": [], "id": 1})
    prompt = [{"role": "user", "content": "Which sea?"}]
    chosen = [{"role": "assistant", "content": "The Baltic."}]
    assert one({"prompt": prompt, "chosen": chosen, "rejected": None}).messages == PAIR


@pytest.mark.parametrize(
    "row",
    [
        {"messages": None, **FILLED["alpaca"]},
        {"messages": TURNS, "chosen": None, "rejected": ""},
        {"tools": [], "messages": [], **FILLED["question_answer"]},
        {"template_variables": None, "text": "", **FILLED["sharegpt"]},
    ],
)
def test_convert_and_inspect_agree(row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [row])
    assert exit_code("convert", str(rows), str(tmp_path / "out.jsonl")) == 0
    written = json.loads((tmp_path / "out.jsonl").read_text())
    assert written["messages"] == TURNS
    assert exit_code("inspect", str(rows), "--template", "chatml", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ledger"]["rows_in"], report["ledger"]["examples"]) == (1, 1)
    assert Message("user", "Which sea?") in one(written).messages
