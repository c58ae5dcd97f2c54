"""The file of answers: which rows are kept, and which are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from instil.conversation import Conversation, Message, Place
from instil.errors import GenerationError
from instil.generation.answers_file import answer_keys, read_answers
from instil.generation.prompts import Prompt
from instil.generation.settings import SamplingSettings

SETTINGS = SamplingSettings(seed=1, num_answers=2)
PROMPT = Prompt(Conversation((Message("user", "one?"),), place=Place("rows.jsonl", 1)))
KEYS = answer_keys(PROMPT, model="m", settings=SETTINGS)


def row(key: str) -> str:
    return json.dumps({"row": "rows.jsonl:1", "prediction": "1", "key": key})


def test_equal_keys_mean_equal_prompt_place_model_settings_and_number():
    other_prompt = Prompt(Conversation((Message("user", "two?"),), place=Place("rows.jsonl", 1)))
    other_place = Prompt(Conversation((Message("user", "one?"),), place=Place("rows.jsonl", 2)))
    others = [
        answer_keys(other_prompt, model="m", settings=SETTINGS),
        answer_keys(other_place, model="m", settings=SETTINGS),
        answer_keys(PROMPT, model="n", settings=SETTINGS),
        answer_keys(PROMPT, model="m", settings=replace(SETTINGS, seed=2)),
    ]
    assert answer_keys(PROMPT, model="m", settings=SETTINGS) == KEYS
    assert len({*KEYS, *(key for keys in others for key in keys)}) == 10


def test_a_last_line_that_a_kill_cut_short_is_removed(tmp_path):
    out = tmp_path / "answers.jsonl"
    out.write_text(row(KEYS[0]) + "\n" + row(KEYS[1])[:20], encoding="utf-8")
    assert set(read_answers(out, set(KEYS))) == {KEYS[0]}
    assert out.read_text(encoding="utf-8") == row(KEYS[0]) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row(KEYS[0]) + "\nnot an answer\n",       r":2: not an answer of this command\."),
        (row(KEYS[0]) + "\nsomeone's last line",   r":2: not an answer of this command\."),
        (row("other-0") + "\n",                    r":1: an answer to another prompt, model or setting\."),
        ('{"row": 1}\n' + row(KEYS[0]) + "\n",     r":1: not an answer of this command\."),
    ],
)  # fmt: skip
def test_a_file_with_anything_else_is_refused_and_stays(tmp_path, text, message):
    out = tmp_path / "answers.jsonl"
    out.write_text(text, encoding="utf-8")
    with pytest.raises(GenerationError, match=message):
        read_answers(out, set(KEYS))
    assert out.read_text(encoding="utf-8") == text


def test_no_file_has_no_answers_and_a_folder_is_refused(tmp_path):
    assert read_answers(tmp_path / "missing.jsonl", set(KEYS)) == {}
    with pytest.raises(GenerationError, match=r"is a folder\. Expected a file"):
        read_answers(tmp_path, set(KEYS))
