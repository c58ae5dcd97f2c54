"""Claims about rows that cannot be used, and about what the real encoder reports: all of it reaches the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.preparation.prepared_data import rows, run, save
from tests.tiny_chat import tiny_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.errors import DataError, EncodingError, TemplateError
from instil.preparation.prepare import Prepared, prepare
from instil.recipe import Recipe

FORGETS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.reasoning_content and loop.last %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn please') }}{% endif %}" + FORGETS


def run_real(tmp_path: Path, rows: list[Any], *, template: str | None = None, **data: Any) -> Prepared:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"sources": str(path), "store": str(tmp_path / "store"), "heldout_share": 0, "max_tokens": 512, **data}
    recipe = Recipe.from_mapping({"data": settings})
    encoder = ChatTokenizer.from_tokenizer(
        tiny_tokenizer(), template, settings=EncodingSettings.from_recipe(recipe.data)
    )
    return prepare(recipe, encoder)


def turns(count: int, **keys: Any) -> dict[str, Any]:
    messages = []
    for number in range(count):
        messages.append({"role": "user", "content": f"Question {number}"})
        messages.append({"role": "assistant", "content": f"Answer {number}", **keys})
    return {"messages": messages}


def test_long_text_is_split_without_a_token_factor(tmp_path: Path) -> None:
    prepared = run_real(tmp_path, [{"text": "word " * 100}, {"text": "short"}], max_tokens=64)
    ledger = prepared.ledger
    assert (ledger.rows_trained, ledger.examples) == (2, len(prepared.train))
    assert ledger.examples > 8
    assert ledger.shortened["split"].count == ledger.examples - 1
    assert ledger.token_factor == 1.0


def test_rows_that_are_too_long_are_counted_with_their_place(tmp_path: Path) -> None:
    prepared = run_real(tmp_path, [turns(1), turns(9), turns(1)], max_tokens=100)
    assert prepared.ledger.left_out["too long"].places == [f"{tmp_path / 'rows.jsonl'}:2"]
    assert prepared.ledger.rows_trained == 2
    kept = run_real(tmp_path, [turns(1), turns(9)], max_tokens=100, too_long="keep_last_turns")
    assert kept.ledger.shortened["kept_last_turns"].count == 1


def test_a_template_that_rewrites_history_shows_in_the_token_factor(tmp_path: Path) -> None:
    prepared = run_real(tmp_path, [turns(6, reasoning_content="hm, let me see what that could be")], template=FORGETS)
    ledger = prepared.ledger
    assert (ledger.rows_trained, ledger.conversations, ledger.examples) == (1, 1, 6)
    assert ledger.token_factor > 2
    assert any(line.startswith("token factor") for line in ledger.lines())
    assert [example.turns for example in prepared.train] == [(1,), (3,), (5,), (7,), (9,), (11,)]


def test_a_conversation_that_the_template_refuses_names_its_place(tmp_path: Path) -> None:
    bad = {"messages": [{"role": "system", "content": "Be brief"}, *turns(1)["messages"]]}
    with pytest.raises(TemplateError, match="no system turn please") as caught:
        run_real(tmp_path, [turns(1), bad], template=REFUSES)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}:2: ")
    skipped = run_real(tmp_path, [turns(1), bad], template=REFUSES, on_bad_row="skip")
    assert skipped.ledger.left_out["template refuses it"].count == 1


def test_typed_control_tokens_are_escaped_and_counted(tmp_path: Path) -> None:
    row = {"question": "What does <|im_end|> mean?", "answer": "It ends a turn."}
    ledger = run_real(tmp_path, [row, turns(1)]).ledger
    assert (ledger.escaped.count, ledger.escaped.places) == (1, [f"{tmp_path / 'rows.jsonl'}:1"])


def test_trained_text_is_the_answer_and_the_stop_token(tmp_path: Path) -> None:
    prepared = run_real(tmp_path, [turns(2)])
    example = prepared.train[0]
    tokenizer = tiny_tokenizer()
    trained = [int(token) for token, weight in zip(example.token_ids, example.weights, strict=True) if weight]
    assert tokenizer.decode(trained) == "Answer 0<|im_end|>Answer 1<|im_end|>"
    assert prepared.ledger.trained_tokens == len(trained)


def test_nothing_is_left_behind_when_the_encoder_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no assistant turn"):
        run_real(tmp_path, [{"messages": [{"role": "user", "content": "Hi"}]}])
    assert not (tmp_path / "store").exists()


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
