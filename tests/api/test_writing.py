"""`instil.write` with rendered text: the same from Python, and read again by training's own reader."""

from __future__ import annotations

import json

import pytest
from tests.tiny_chat import folders

import instil
from instil.api.writing import RENDERED, TARGETS
from instil.errors import FormatError, RecipeError, TemplateError

ROWS = [{"question": "2+2?", "answer": "4"}, {"question": "3+3?", "answer": "6", "id": 1}]


def test_rendered_text_is_what_the_model_is_trained_on_and_reads_back_as_messages(tmp_path):
    chat = instil.ChatTokenizer.from_pretrained(folders()["run"])
    path = tmp_path / "text.jsonl"
    assert instil.write(ROWS, path, format="template-text", model=folders()["run"]) == 2
    texts = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    asked = list(instil.read(ROWS))
    assert [row["text"] for row in texts] == [chat.render(one).text for one in asked]
    assert texts[1]["id"] == 1
    for back, before in zip(instil.read(path), asked, strict=True):
        assert [example.token_ids for example in chat.encode(back)] == [
            example.token_ids for example in chat.encode(before)
        ]


def test_the_tokens_of_the_model_stand_in_a_named_template(tmp_path):
    path = tmp_path / "text.jsonl"
    instil.write(ROWS[:1], path, format="zephyr-text", model="demo")
    assert json.loads(path.read_text("utf-8"))["text"].count("<|endoftext|>") == 2
    instil.write(ROWS[:1], path, format="template-text", template="### Q:\n{user}\n### A:\n{assistant}<|end|>")
    assert json.loads(path.read_text("utf-8")) == {"text": "### Q:\n2+2?\n### A:\n4<|end|>"}


def test_what_changes_its_form_is_told(tmp_path):
    texts = {"system": "S", "user": "q", "assistant": "a"}
    rows = [[{"role": role, "content": text} for role, text in texts.items()]]
    told: list[str] = []
    instil.write(rows, tmp_path / "a.jsonl", format="gemma-text", on_change=told.append)
    assert told == ["the system text is part of the first question: 1 row"]
    with pytest.warns(UserWarning, match="the system text is part of the first question: 1 row"):
        instil.write(rows, tmp_path / "b.jsonl", format="gemma-text")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"format": "chatml"}, RecipeError, 'format="chatml-text"'),
        ({"format": "openai"}, RecipeError, "Choose messages"),
        ({"format": "jsonl"}, RecipeError, "The file's name decides that"),
        ({"format": "chatmal-text"}, FormatError, "did you mean 'chatml-text'"),
        ({"format": "template-text"}, FormatError, "neither a template nor a model"),
        ({"format": "chatml-text", "template": "gemma"}, FormatError, 'Write format="template-text"'),
        ({"format": "alpaca", "template": "gemma"}, FormatError, "template: belongs to rendered text"),
        ({"format": "alpaca", "model": "demo"}, FormatError, "model: belongs to rendered text"),
        ({"format": "template-text", "template": 5}, FormatError, "template: found 5"),
        (
            {"format": "template-text", "template": "{system_message}{user_message}{assistant_message}"},
            TemplateError,
            "{system_message} is called {system} here",
        ),
        ({"format": "template-text", "template": "{user}\n{assistant}"}, FormatError, "does not read back"),
    ],
)  # fmt: skip
def test_a_wrong_target_is_explained_and_nothing_is_written(arguments, error, words, tmp_path):
    with pytest.raises(error) as refusal:
        instil.write(ROWS, tmp_path / "out.jsonl", **arguments)
    assert words in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_every_named_template_is_a_target():
    assert {"chatml-text", "llama-3-text", "alpaca-text", "template-text"} <= set(RENDERED) < set(TARGETS)
    assert "pattern" not in TARGETS
