"""The three files are valid in their formats, the same every time, and cover what the issue of training needs."""

import json

import pytest

from instil.demo.instructions import write_instructions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("instructions") / "data"
    assert [path.name for path in write_instructions(folder)] == ["alpaca.json", "sharegpt.json", "messages.jsonl"]
    return folder


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(folder, tmp_path):
    for path in write_instructions(tmp_path):
        assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.slow
def test_another_seed_writes_other_bytes(folder, tmp_path):
    for path in write_instructions(tmp_path, seed=6):
        assert path.read_bytes() != (folder / path.name).read_bytes()


def test_alpaca_rows_have_the_three_keys_and_some_an_input(folder):
    rows = json.loads((folder / "alpaca.json").read_text(encoding="utf-8"))
    assert len(rows) > 1000
    assert {tuple(row) for row in rows} == {("instruction", "input", "output")}
    assert all(row["instruction"] and row["output"] for row in rows)
    assert any(row["input"] for row in rows)
    assert any(not row["input"] for row in rows)


def test_sharegpt_turns_alternate_and_some_have_a_system_turn(folder):
    rows = json.loads((folder / "sharegpt.json").read_text(encoding="utf-8"))
    speakers = [[turn["from"] for turn in row["conversations"]] for row in rows]
    _check_roles(speakers, user="human", assistant="gpt")


def test_message_rows_alternate_and_some_have_a_system_turn(folder):
    lines = (folder / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    _check_roles(
        [[turn["role"] for turn in json.loads(line)["messages"]] for line in lines], user="user", assistant="assistant"
    )


def _check_roles(conversations, *, user, assistant):
    assert len(conversations) > 1000
    assert any(roles[0] == "system" for roles in conversations)
    assert any(len(roles) >= 4 for roles in conversations)
    for roles in conversations:
        body = roles[1:] if roles[0] == "system" else roles
        assert body == [user, assistant] * (len(body) // 2)
        assert body


def test_every_task_is_there(folder):
    text = (folder / "alpaca.json").read_text(encoding="utf-8")
    for sign in (
        "What is the capital of",
        "as one of:",
        "as JSON",
        "Translate into French",
        "List for",
        "plus",
        "Python",
    ):
        assert sign in text, sign
