from __future__ import annotations

import json
import re

import pytest

import instil
from instil.conversation import Conversation, Message
from instil.errors import DataError
from instil.generation.prompts import prompts_of, read_prompts


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


CASES = [
    ({"prompt": "a"}, [("user", "a")], None),
    ({"question": "a"}, [("user", "a")], None),
    ({"instruction": "a", "input": "b"}, [("user", "a\nb")], None),
    ({"instruction": "a", "input": "", "output": "c"}, [("user", "a")], "c"),
    ({"question": "a", "answer": "b"}, [("user", "a")], "b"),
    ({"prompt": "a", "completion": "b"}, [("user", "a")], "b"),
    ({"prompt": [{"role": "user", "content": "a"}], "id": 7}, [("user", "a")], None),
    ({"messages": [{"role": "user", "content": "a"}]}, [("user", "a")], None),
    (
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]},
        [("system", "s"), ("user", "a")],
        None,
    ),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, [("user", "a")], "b"),
    ({"system": "s", "prompt": "a"}, [("system", "s"), ("user", "a")], None),
    ("just a string", [("user", "just a string")], None),
]


@pytest.mark.parametrize(("row", "asked", "reference"), CASES)
def test_every_shape_gives_what_is_asked(tmp_path, row, asked, reference):
    (prompt,) = read_prompts(lines(tmp_path / "p.jsonl", [row]))
    assert [(m.role, m.content) for m in prompt.conversation.messages] == asked
    assert prompt.reference_text == reference
    assert str(prompt.place).endswith("p.jsonl:1")


def test_a_text_file_is_one_prompt_a_line(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    prompts = read_prompts(path)
    assert [(p.conversation.messages[0].content, p.place.row) for p in prompts] == [("one", 1), ("two", 3)]


def test_every_turn_can_be_asked_after_its_own_history():
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    prompts = prompts_of(Conversation(tuple(turns)), turns="every")
    assert [(len(p.conversation.messages), p.reference_text, p.turn, p.last) for p in prompts] == [
        (1, "b", 1, False),
        (3, "d", 2, True),
    ]
    assert [p.turn for p in prompts_of(Conversation(tuple(turns)))] == [2]
    assert len({p.fingerprint() for p in prompts}) == 2


def test_limit_takes_the_first(tmp_path):
    path = lines(tmp_path / "p.jsonl", [{"prompt": str(n)} for n in range(9)])
    assert len(read_prompts(path, limit=4)) == 4


def test_what_cannot_be_asked_is_refused_with_its_place(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"p\.jsonl:1"):
        read_prompts(lines(tmp_path / "p.jsonl", [{"colour": "red"}]))
    with pytest.raises(DataError, match=r"q\.jsonl:1: there is nothing before the answer"):
        read_prompts(lines(tmp_path / "q.jsonl", [{"messages": [{"role": "assistant", "content": "b"}]}]))
    (tmp_path / "blank.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no prompt"):
        read_prompts(tmp_path / "blank.txt")


@pytest.mark.parametrize(
    ("row", "option", "argument"),
    [
        (
            {"foo": "a", "bar": "b"},
            "OUT.jsonl --columns.user '{foo}' --columns.assistant '{bar}', or rename",
            'instil.read(rows, columns={"user": "{foo}", "assistant": "{bar}"}), or rename',
        ),
        (
            {"question": "a", "Question": "b", "answer": "c"},
            "OUT.jsonl --columns.user '{question}' --columns.assistant '{answer}'.",
            'instil.read(rows, columns={"user": "{question}", "assistant": "{answer}"}).',
        ),
        ({"question": "a", "Question": "b"}, "OUT.jsonl --columns.user", "instil.read(rows, columns="),
        (
            {"image": "x", "question": "a", "answer": "b"},
            "OUT.jsonl --on-bad-row skip.",
            'instil.read(rows, on_bad_row="skip").',
        ),
        (
            {"messages": [{"role": "gpt", "content": "a"}]},
            "OUT.jsonl --from sharegpt if",
            'instil.read(rows, format="sharegpt") if',
        ),
        ({"prompt": "a", "completion": "b", "label": False}, "Leave such rows out with instil convert", "Leave such"),
    ],
)
def test_errors_name_what_can_be_done_without_settings(row, option, argument, tmp_path):
    path = lines(tmp_path / "p.jsonl", [row])
    for source, remedy in ((path, option), ([row], argument)):
        with pytest.raises(DataError) as error:
            read_prompts(source)
        assert remedy in str(error.value)
        assert re.search(r"data\.[a-z]", str(error.value)) is None
        assert source != path or f"instil convert {path} OUT.jsonl" in str(error.value)


def test_what_the_error_names_gives_prompts():
    read = instil.read([{"foo": "a", "bar": "b"}], columns={"user": "{foo}", "assistant": "{bar}"})
    (prompt,) = read_prompts(read)
    assert (prompt.conversation.messages[0].content, prompt.reference_text) == ("a", "b")
