"""A system text or tool definitions in a column beside the turns are read, or a warning says that they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import one
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code

from instil.conversation import Message
from instil.data.messages import as_conversation
from instil.data.side_columns import SYSTEM_COLUMNS, TOOL_COLUMNS
from instil.errors import DataError

TURNS = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Wet."}]
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": TURNS},
    "another column": {"dialog": TURNS},
    "JSON text": {"messages": json.dumps(TURNS)},
    "sharegpt": {"conversations": [{"from": "human", "value": "Weather?"}, {"from": "gpt", "value": "Wet."}]},
    "alpaca": {"instruction": "Weather?", "output": "Wet."},
    "prompt_completion": {"prompt": "Weather?", "completion": "Wet."},
    "question_answer": {"question": "Weather?", "answer": "Wet."},
    "preference": {"prompt": "Weather?", "chosen": "Wet.", "rejected": "Dry."},
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("column", SYSTEM_COLUMNS)
@pytest.mark.parametrize("name", ROWS)
def test_a_system_column_is_the_first_message_in_every_format(name: str, column: str) -> None:
    conversation = one({column: "Speak as a sailor.", **ROWS[name]})
    assert conversation.messages[0] == Message("system", "Speak as a sailor.")
    assert conversation.messages[1].content == "Weather?"
    assert column not in conversation.extra


@pytest.mark.parametrize("column", TOOL_COLUMNS)
@pytest.mark.parametrize("name", ROWS)
def test_a_column_of_definitions_gives_the_tools_in_every_format(name: str, column: str) -> None:
    for value in ([TOOL], [TOOL["function"]], json.dumps([TOOL])):
        for empty in ({}, {"tools": None}, {"tools": []}, {"tools": "[]"}):
            conversation = one({**ROWS[name], **empty, column: value})
            assert conversation.tools == (TOOL,), (column, value, empty)


def test_python_reads_the_same_columns() -> None:
    conversation = as_conversation({"messages": TURNS, "system": "Be brief.", "tool_defs": [TOOL]})
    assert conversation.messages[0] == Message("system", "Be brief.")
    assert conversation.tools == (TOOL,)


def test_two_system_texts_that_differ_are_refused_and_equal_ones_are_one() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    assert len(one({"messages": turns, "system": "Be brief."}).messages) == 3
    with pytest.raises(DataError, match="has a column system and a different system turn"):
        one({"messages": turns, "system": "Be long."})
    with pytest.raises(DataError, match="different texts in system and system_prompt"):
        one({"messages": TURNS, "system": "a", "system_prompt": "b"})
    with pytest.raises(DataError, match="has a column system and a different system turn"):
        one({"prompt": "q", "chosen": turns, "rejected": TURNS, "system": "Be long."})


@pytest.mark.parametrize(
    "columns",
    [
        {"system": {"text": "Be brief."}},
        {"sys_prompt": "Be brief."},
        {"api_tools": [TOOL]},
        {"tools": [TOOL], "functions": [{"name": "other"}]},
        {"tool_list": json.dumps([TOOL])},
    ],
)
def test_what_looks_like_them_and_is_not_read_is_a_warning(
    columns: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"messages": TURNS, **columns}])
    assert exit_code("inspect", str(rows), "--template", "chatml", "--json") == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]["kept"]
    assert (finding["kind"], finding["severity"]) == ("unread_column", "warning")
    assert repr(list(columns)[-1]) in finding["seen"]


def test_columns_about_tools_that_define_none_are_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {"num_tools": 3, "tools_used": ["look"], "function_results": [{"name": "look", "arguments": "{}"}]}
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"messages": TURNS, "system": None, "system_prompt": "", **extra}])
    assert exit_code("inspect", str(rows), "--template", "chatml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["findings"]["kept"] == []


def test_convert_keeps_them(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"messages": TURNS, "system": "Be brief.", "tool_defs": [TOOL]}])
    for target in ("messages", "sharegpt"):
        out = tmp_path / f"{target}.jsonl"
        assert exit_code("convert", str(rows), str(out), "--to", target) == 0
        conversation = one(json.loads(out.read_text()))
        assert conversation.messages[0].content == "Be brief."
        assert conversation.tools == (TOOL,)
