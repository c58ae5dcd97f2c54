"""Faults of other tools in preference data, one test each: `Axolotl`, `TRL`, `LLaMA-Factory`, `OpenRLHF` in 2026."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conformance.cases import CALLING, TOOL
from tests.conformance.chats import chat_of, unusual_chat
from tests.conformance.pairs import call, with_side
from tests.preparation.pair_data import answer, pair, run_pairs, user
from tests.training.command_line import exit_code

from instil.conversation import Example
from instil.data.messages import conversation_from_dict
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.preparation.encode_pairs import EQUAL, PREFIX, TOO_LONG, encode_units


def sides(chat: ChatTokenizer, prompt: list[Any], chosen: list[Any], rejected: list[Any], **more: Any) -> list[Example]:
    """Encode a pair as training does."""
    unit = tuple(
        with_side(conversation_from_dict({"messages": [*prompt, *ending], **more}), side)
        for ending, side in ((chosen, "chosen"), (rejected, "rejected"))
    )
    ((_, examples),) = encode_units([unit], chat, "pairs")
    assert isinstance(examples, list), examples
    return examples


def trained(chat: ChatTokenizer, example: Example) -> str:
    return chat.decode([id for id, weight in zip(example.token_ids, example.weights, strict=True) if weight])


def prompt_of(example: Example) -> list[int]:
    start = next(at for at, weight in enumerate(example.weights) if weight)
    return list(example.token_ids[:start])


@pytest.mark.parametrize("family", ["llama-3", "gemma", "chatml", "phi-3"])
@pytest.mark.parametrize(
    ("chosen", "rejected"), [("Paris.\n", " London."), ("a", "user"), ("user", "assistant"), ("model", "a")]
)
def test_an_answer_is_found_whatever_its_text_is(family: str, chosen: str, rejected: str) -> None:
    """Axolotl looks for it with `find`: white space empties the answer, and `a` and `user` train the header."""
    chat = chat_of(family)
    examples = sides(chat, [user("Capital of France? a user")], [answer(chosen)], [answer(rejected)])
    serving = chat.prompt([user("Capital of France? a user")])
    for example, text in zip(examples, (chosen, rejected), strict=True):
        assert prompt_of(example) == serving
        written = trained(chat, example)
        assert written.startswith((text, text.strip()))  # some templates trim an answer
        assert list(example.token_ids)[-1] in chat.stop_ids


def test_calls_reasoning_and_tools_are_part_of_a_pair() -> None:
    """Axolotl drops them, and a chosen call trains the user's header."""
    chat = chat_of("llama-3.1")
    examples = sides(chat, CALLING[:1], call("Hanoi"), call("Paris"), tools=[TOOL])
    serving = chat.prompt(CALLING[:1], [TOOL])
    assert [prompt_of(example) for example in examples] == [serving, serving]
    for example, city in zip(examples, ("Hanoi", "Paris"), strict=True):
        assert city in trained(chat, example)
        assert "user" not in trained(chat, example)
    thinking = chat_of("old reasoning dropped")
    examples = sides(
        thinking, [user("2+2?")], [answer("4", reasoning_content="good")], [answer("4", reasoning_content="bad")]
    )
    assert [trained(thinking, one) for one in examples] == [
        f"<think>\n{how}\n</think>\n\n4<|im_end|>" for how in ("good", "bad")
    ]


def test_a_conversation_of_many_turns_is_kept_whole() -> None:
    """Axolotl's `chatml.argilla_chat` keeps two turns."""
    chat = chat_of("chatml")
    prompt = [turn for n in range(4) for turn in (user(f"Question {n}?"), answer(f"Answer {n}."))] + [user("Last?")]
    for example in sides(chat, prompt, [answer("good")], [answer("bad")]):
        assert prompt_of(example) == chat.prompt(prompt)
        assert all(f"Answer {n}." in chat.decode(prompt_of(example)) for n in range(4))


def test_prompt_ids_that_are_no_prefix_of_the_whole_text_are_servings_all_the_same() -> None:
    """TRL warns and cuts the joint ids at the prompt's length, so the first token of the answer is lost or halved."""
    chat = unusual_chat("space after the prompt only", "byte_level")
    prompt, text = [user("One?")], "assistant"
    serving = chat.prompt(prompt)
    rendered = chat.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    examples = sides(chat, prompt, [answer(text)], [answer("system")])
    for example, written in zip(examples, (text, "system"), strict=True):
        assert prompt_of(example) == serving
        assert trained(chat, example).strip() == f"{written}</s>"
        assert chat.decode(example.token_ids) == f"{rendered} {written}</s>"


@pytest.mark.parametrize("family", ["chatml", "phi-3", "zephyr"])
def test_nothing_that_follows_the_stop_token_counts(family: str) -> None:
    """TRL sums over the line break that ChatML prints behind it, on both sides."""
    chat = chat_of(family)
    for example in sides(chat, [user("One?")], [answer("good")], [answer("bad")]):
        whole = chat.tokenizer.apply_chat_template(
            [user("One?"), answer(trained(chat, example)[: -len(chat.decode([example.token_ids[-1]]))])],
            return_dict=False,
        )
        assert len(whole) > len(example.token_ids), "the template prints something behind the stop token"
        assert example.token_ids[-1] in chat.stop_ids
        assert sum(weight > 0 for weight in example.weights) == len(example.token_ids) - len(prompt_of(example))


def test_the_common_prompt_is_one_of_messages_and_not_of_characters(tmp_path: Path) -> None:
    """TRL's `extract_prompt` looks for common characters: `The capital is ` would be a part of the prompt."""
    chat = chat_of("chatml")
    examples = sides(chat, [user("Which?")], [answer("The capital is Paris.")], [answer("The capital is London.")])
    assert [trained(chat, one) for one in examples] == [
        "The capital is Paris.<|im_end|>",
        "The capital is London.<|im_end|>",
    ]
    rows = [
        pair(1),
        {"prompt": "x?", "chosen": "Yes.", "rejected": "Yes."},
        {"prompt": "x?", "chosen": "Yes", "rejected": "Yes."},
    ]
    left_out = run_pairs(tmp_path, rows).ledger.left_out
    assert {reason: tally.count for reason, tally in left_out.items()} == {EQUAL: 1, PREFIX: 1}


def test_a_pair_that_is_too_long_loses_no_stop_token_and_is_counted(tmp_path: Path) -> None:
    """TRL keeps the start of 1024 tokens; pairs whose prompt fills it vanish uncounted."""
    rows = [
        pair(1),
        {"prompt": "x?", "chosen": "word " * 90, "rejected": "no"},
        {"prompt": "word " * 90, "chosen": "a b", "rejected": "c"},
    ]
    prepared = run_pairs(tmp_path, rows, max_tokens=100)
    assert prepared.ledger.left_out[TOO_LONG].places == [f"{tmp_path / 'rows.jsonl'}:2", f"{tmp_path / 'rows.jsonl'}:3"]
    assert len(prepared.train) == 2
    assert {int(example.token_ids[-1]) for example in prepared.train} == {int(prepared.train[0].token_ids[-1])}


def test_a_long_prompt_is_shortened_by_exchanges_alike_on_both_sides() -> None:
    """LLaMA-Factory takes the chosen side's prompt, cuts the assistant's header off, and cuts both answers to one length."""
    prompt = [turn for n in range(5) for turn in (user(f"Question {n} " * 5), answer(f"Answer {n}."))] + [user("Last?")]
    chat = chat_of("chatml").with_settings(EncodingSettings(max_tokens=200, too_long="keep_last_turns"))
    good, bad = sides(chat, prompt, [answer("good " * 30)], [answer("bad")])
    shortened = [chat.prompt(prompt[start:]) for start in range(2, len(prompt), 2)]
    assert prompt_of(good) == prompt_of(bad)
    assert prompt_of(good) in shortened
    assert trained(chat, good) == "good " * 30 + "<|im_end|>"
    assert trained(chat, bad) == "bad<|im_end|>"
    assert good.shortened == bad.shortened == "kept_last_turns"


def test_every_rejected_answer_makes_a_pair(tmp_path: Path) -> None:
    """LLaMA-Factory drops rows of more than two answers with a warning."""
    row = {"prompt": "x?", "responses": ["good one", "bad one", "worse one"], "scores": [3, 2, 1]}
    assert run_pairs(tmp_path, [row]).ledger.chosen.count == 2
    assert run_pairs(tmp_path, [row], rejected="worst").ledger.chosen.count == 1


def test_the_prompt_is_masked_on_both_sides(tmp_path: Path) -> None:
    """OpenRLHF #294: only the chosen side's prompt was masked. `run_pairs` compares the prompts of both sides."""
    rows = [
        {
            "prompt": [user("A?"), answer("One."), user("B?")],
            "chosen": [answer("good")],
            "rejected": [answer("not so good")],
        }
    ]
    good, bad = run_pairs(tmp_path, rows).train
    assert (good.weights > 0).argmax() == (bad.weights > 0).argmax() > 20
    assert good.turns == bad.turns == (3,)


@pytest.mark.parametrize("verb", ["train", "prepare", "inspect", "plan"])
def test_rows_of_one_answer_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": "demo",
        "training": {"objective": "dpo"},
        "data": {"sources": str(path), "store": str(tmp_path / "store")},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "output": str(tmp_path / "run")}))
    code = exit_code(verb, str(tmp_path / "recipe.yaml"))
    out = capsys.readouterr()
    if verb == "inspect":
        assert "chosen and rejected" in out.out
        return
    assert code == 2
    lines = [line for line in out.err.splitlines() if "chosen and rejected" in line]
    assert len(lines) == 1
    assert f"{path}:1: found question_answer" in lines[0]


@pytest.mark.parametrize("verb", ["train", "prepare", "inspect", "plan"])
def test_a_setting_that_cuts_answers_is_refused_by_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(pair(n)) + "\n" for n in range(30)))
    data = {"sources": str(tmp_path / "rows.jsonl"), "store": str(tmp_path / "store"), "too_long": "truncate_answer"}
    recipe = {"model": "demo", "training": {"objective": "dpo"}, "data": data, "output": str(tmp_path / "run")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert exit_code(verb, str(tmp_path / "recipe.yaml")) == 2
    assert "data.too_long: found truncate_answer with training.objective: dpo" in capsys.readouterr().err
