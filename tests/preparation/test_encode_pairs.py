"""Claims about pairs and judged answers in preparation: they are used whole, or left out whole with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.preparation.pair_data import answer, answers, chat_of, pair, recipe_of, run_pairs, user
from tests.preparation.test_encode_rows import FORGETS, REFUSES

from instil.conversation import Conversation, Message, PartWeight
from instil.errors import DataError, EncodingError, RecipeError, TemplateError
from instil.inspection.survey import survey
from instil.preparation import encode_pairs
from instil.preparation.encode_pairs import (
    EQUAL,
    NO_PAIR,
    PREFIX,
    PROMPTS_DIFFER,
    SEVERAL_EXAMPLES,
    TOO_LONG,
    check_preference_settings,
    encode_units,
    read_pair,
    units_of,
)
from instil.preparation.prepare import prepare
from instil.recipe import Recipe

USER = Message("user", "2+2?")


def side(*messages: Message, **more: Any) -> Conversation:
    return Conversation(messages, **more)


def said(text: str, **more: Any) -> Message:
    return Message("assistant", text, **more)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ((USER, said("4")), (USER, said("5")), None),
        ((USER, said("4")), (USER, said(" 4\n")), EQUAL),
        ((USER, said("4", weight=0.5)), (USER, said("4")), EQUAL),
        ((USER, said("4")), (USER, said("4, or 5")), PREFIX),
        ((USER, said("4, or 5")), (USER, said("4")), PREFIX),
        ((USER, said("")), (USER, said("5")), PREFIX),
        ((USER, said("4"), USER, said("5")), (USER, said("4")), PREFIX),
        ((USER, said("4"), USER, said("5")), (USER, said("4, or"), USER, said("5")), None),
        ((USER, said("4", reasoning="a")), (USER, said("4", reasoning="b")), None),
        ((USER, said("4")), (Message("user", "3+3?"), said("6")), PROMPTS_DIFFER),
        ((USER, said("4"), USER, said("5")), (USER, said("4"), Message("user", "?"), said("6")), PROMPTS_DIFFER),
        ((said("4"),), (said("5"),), PROMPTS_DIFFER),
    ],
)  # fmt: skip
def test_what_two_answers_must_have_in_common(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...], reason: str | None
) -> None:
    read = read_pair(side(*chosen), side(*rejected))
    assert getattr(read, "reason", None) == reason
    assert isinstance(read, encode_pairs.Pair) == (reason is None)


def test_two_sides_with_other_tools_are_no_pair() -> None:
    tools = ({"type": "function", "function": {"name": "f"}},)
    read = read_pair(side(USER, said("4"), tools=tools), side(USER, said("5")))
    assert isinstance(read, encode_pairs.LeftOut)
    assert read.reason == PROMPTS_DIFFER


def test_the_prompt_of_a_pair_is_never_trained() -> None:
    sides = (
        side(USER, said("Four."), USER, said(text), side=name) for text, name in (("5", "chosen"), ("6", "rejected"))
    )
    chat = chat_of(Recipe())
    ((_, examples),) = encode_units([tuple(sides)], chat, "pairs")
    assert isinstance(examples, list)
    assert [example.turns for example in examples] == [(3,), (3,)]
    assert [chat.decode([id for id, w in zip(one.token_ids, one.weights, strict=True) if w]) for one in examples] == [
        "5<|im_end|>",
        "6<|im_end|>",
    ]


def test_conversations_without_their_other_side_are_a_bug() -> None:
    alone = [side(USER, said("4"), side="rejected"), side(USER, said("5"), side="chosen")]
    with pytest.raises(DataError, match="A bug in instil"):
        units_of(alone, "pairs")
    with pytest.raises(DataError, match="A bug in instil"):
        units_of(alone[:1], "pairs")
    with pytest.raises(DataError, match="A bug in instil"):
        units_of([side(USER, said("4"))], "judged")


def test_every_row_is_trained_or_left_out_with_its_reason(tmp_path: Path) -> None:
    common = [user("A?"), answer("a."), user("B?")]
    rows = [
        pair(1),
        {"prompt": "x?", "chosen": "Yes.", "rejected": "Yes.\n"},
        {"prompt": "x?", "chosen": "Yes.", "rejected": "Yes. No."},
        {"prompt": "x?", "responses": ["a", "b"], "scores": [1, 1]},
        {"prompt": "x?", "responses": ["good one", "bad one", "worse one"], "scores": [3, 2, 1]},
        {"prompt": "x?", "chosen": "word " * 200, "rejected": "short"},
        {"prompt": "x?", "chosen": "short", "rejected": "word " * 200},
        {"chosen": [*common, answer("good")], "rejected": [*common, answer("bad")]},
        {"chosen": [user("A?"), answer("good")], "rejected": [user("B?"), answer("bad")]},
    ]
    prepared = run_pairs(tmp_path, rows, max_tokens=128, on_bad_row="skip")
    ledger = prepared.ledger
    assert {reason: tally.count for reason, tally in ledger.left_out.items()} == {
        EQUAL: 1, PREFIX: 1, NO_PAIR: 1, TOO_LONG: 2, PROMPTS_DIFFER: 1,
    }  # fmt: skip
    assert ledger.left_out[PREFIX].places == [f"{tmp_path / 'rows.jsonl'}:3"]
    assert (ledger.rows_in, ledger.rows_trained) == (9, 3)
    assert (ledger.chosen.count, ledger.rejected.count, ledger.examples) == (4, 4, 8)
    assert ledger.chosen.tokens + ledger.rejected.tokens == ledger.trained_tokens
    assert "pairs            4" in ledger.lines()


@pytest.mark.parametrize(
    ("row", "template", "error", "words"),
    [
        (
            {"chosen": [user("A?"), answer("a")], "rejected": [user("B?"), answer("b")]},
            None, DataError, "no message in common",
        ),
        (
            {"prompt": [{"role": "system", "content": "Be brief"}, user("A?")], "chosen": "a", "rejected": "b"},
            REFUSES, TemplateError, "no system turn please",
        ),
        (
            {"prompt": [user("A?")], "chosen": [answer("a", train=False)], "rejected": [answer("b")]},
            None, None, "no trained token",
        ),
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_used_stops_or_is_counted(
    tmp_path: Path, row: Any, template: str | None, error: type[Exception] | None, words: str
) -> None:
    if error is not None:
        with pytest.raises(error, match=words) as caught:
            run_pairs(tmp_path, [pair(1), row], template=template)
        assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}:2: ")
    skipped = run_pairs(tmp_path, [pair(1), row], template=template, on_bad_row="skip").ledger
    assert (skipped.rows_in, skipped.rows_trained, skipped.rows_left_out) == (2, 1, 1)
    assert words in str(skipped.left_out)


def test_the_refused_side_is_named(tmp_path: Path) -> None:
    class Refuses:
        settings = chat_of(Recipe()).settings

        def encode_many(self, conversations: Any) -> Any:
            for conversation in conversations:
                yield EncodingError(f"{conversation.place}: cannot be decided")

        def read_rendered(self, conversation: Conversation) -> tuple[Conversation, None]:
            return conversation, None

        fingerprint, template = "x", chat_of(Recipe()).template

    with pytest.raises(EncodingError, match=r"rows\.jsonl:1: the chosen answer: cannot be decided"):
        prepare(recipe_of(tmp_path, [pair(1)]), Refuses())  # type: ignore[arg-type]


def test_an_answer_that_needs_several_examples_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The template drops the reasoning of all turns but the last, so two turns of one answer are two examples."""
    ending = [answer("One", reasoning_content="hm"), user("And?"), answer("Two", reasoning_content="so")]
    row = {"prompt": [user("A?")], "chosen": ending, "rejected": [answer("No"), user("And?"), answer("Nothing")]}
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the chosen answer has several turns"):
        run_pairs(tmp_path, [row], template=FORGETS)
    ledger = run_pairs(tmp_path, [row, pair(1)], template=FORGETS, on_bad_row="skip").ledger
    assert ledger.left_out[SEVERAL_EXAMPLES].count == 1


def test_answers_that_the_template_prints_alike_are_no_pair(tmp_path: Path) -> None:
    prints_no_reasoning = FORGETS.replace("m.reasoning_content and loop.last", "false")
    rows = [
        {"prompt": [user("A?")], "chosen": [answer("One", reasoning_content=text)], "rejected": [answer("One", reasoning_content="b")]}
        for text in ("a", "c")
    ]  # fmt: skip
    ledger = run_pairs(tmp_path, [*rows, pair(1)], template=prints_no_reasoning, dropped_text="accept").ledger
    assert ledger.left_out[EQUAL].count == 2


def test_ids_before_the_answers_are_compared() -> None:
    """Weights of parts can leave the beginning of an answer out of training, and then the ids before it differ."""
    chat = chat_of(Recipe())
    parts = (PartWeight("content", 0, 3, 0.0),)
    sides = (
        side(USER, said("No: 5", part_weights=parts), side="chosen"),
        side(USER, said("Hm: 6", part_weights=parts), side="rejected"),
    )
    ((_, outcome),) = encode_units([sides], chat, "pairs")
    assert isinstance(outcome, encode_pairs.LeftOut)
    assert outcome.reason == PROMPTS_DIFFER
    assert "token ids before the answers differ from token" in outcome.message


def long_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        prompt = [turn for n in range(6) for turn in (user(f"Question {n}"), answer(f"Answer {n}"))]
        prompt = [{"role": "system", "content": "Rules"}, *prompt, user(f"Last {number}")]
        rows.append({"prompt": prompt, "chosen": [answer("good " * 20)], "rejected": [answer("bad")]})
    return rows


def test_keep_last_turns_drops_the_same_exchanges_on_both_sides(tmp_path: Path) -> None:
    """The rejected side alone would fit."""
    kept = run_pairs(tmp_path, long_rows(2), max_tokens=240, too_long="keep_last_turns")
    chat = chat_of(Recipe())
    texts = [chat.decode(one.token_ids.tolist()) for one in kept.train]
    assert len(texts) == 4
    for chosen, rejected in (texts[:2], texts[2:]):
        assert chosen.split("good ")[0] == rejected.removesuffix("bad<|im_end|>")
        assert "Rules" in chosen
        assert "Question 0" not in chosen
        assert "Question 5" in chosen
    assert all(one.shortened == "kept_last_turns" and one.turns == (14,) for one in kept.train)
    assert max(kept.train.num_tokens) <= 240
    whole = run_pairs(tmp_path, long_rows(2), too_long="keep_last_turns")
    assert [one.shortened for one in whole.train] == [None] * 4
    dropped = run_pairs(tmp_path, [*long_rows(2), pair(1)], max_tokens=240).ledger
    assert dropped.left_out[TOO_LONG].count == 2


def test_keep_last_turns_leaves_out_what_never_fits(tmp_path: Path) -> None:
    ledger = run_pairs(tmp_path, [*long_rows(1), pair(1)], max_tokens=80, too_long="keep_last_turns").ledger
    assert ledger.left_out[TOO_LONG].count == 1


def test_refuse_names_the_place_of_a_pair_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"rows\.jsonl:1: the chosen answer: an example has"):
        run_pairs(tmp_path, long_rows(1), max_tokens=240, too_long="refuse")


@pytest.mark.parametrize("objective", ["dpo", "kto"])
@pytest.mark.parametrize(("name", "value"), [("too_long", "truncate_answer"), ("too_long", "split"),
                                             ("train_on", "all"), ("train_on", "last")])  # fmt: skip
def test_settings_that_would_cut_an_answer_are_refused_by_name(name: str, value: str, objective: str) -> None:
    settings = {"training": {"objective": objective}, "data": {name: value}}
    with pytest.raises(RecipeError, match=f"data.{name}: found {value} with training.objective: {objective}"):
        check_preference_settings(Recipe.from_mapping(settings))
    check_preference_settings(Recipe.from_mapping({"data": {name: value}}))


@pytest.mark.slow
def test_pairs_are_never_parted(tmp_path: Path) -> None:
    """By chunks, worker processes, the split, `rows`, `repeat` and `deduplicate`: `run_pairs` looks at every pair."""
    rows = [pair(number) for number in range(600)] + [pair(3)] * 4
    scored = {"prompt": "x?", "responses": ["a one", "b two", "c three"], "scores": [3, 2, 1]}
    rows += [{**scored, "prompt": f"x {number}?"} for number in range(20)]
    whole = run_pairs(tmp_path, rows, heldout_share=0.2)
    assert (len(whole.train) + len(whole.heldout)) / 2 == 604 + 40
    assert len(whole.heldout) > 100
    assert whole.ledger.duplicates.count in (4, 5)
    source = {"path": str(tmp_path / "rows.jsonl"), "rows": 300, "repeat": 3}
    drawn = run_pairs(tmp_path, rows, deduplicate=True, sources=[source])
    assert drawn.ledger.examples_an_epoch == 3 * drawn.ledger.examples == len(drawn.train)
    assert drawn.ledger.left_out["not drawn"].count == 324


@pytest.mark.slow
def test_worker_processes_write_the_bytes_of_one_process(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(1100)]
    (tmp_path / "two").mkdir()
    one, two = run_pairs(tmp_path, rows), run_pairs(tmp_path / "two", rows, workers=2)
    # Places name the files, which lie in two folders.
    assert [list(a.token_ids) for a in one.train] == [list(b.token_ids) for b in two.train]
    assert one.train.sides.tolist() == two.train.sides.tolist()


def test_held_out_prompts_are_answered_once_each(tmp_path: Path) -> None:
    scored = {"responses": ["a one", "b two", "c three"], "scores": [3, 2, 1]}
    rows = [{**scored, "prompt": f"x {number}?"} for number in range(40)]
    for objective in ("dpo", "kto"):
        prepared = run_pairs(tmp_path, rows, objective, heldout_share=0.3)
        held = prepared.heldout_conversations
        assert 4 < len(held) == prepared.heldout_ledger.rows_trained
        assert len({conversation.messages[0].content for conversation in held}) == len(held)
        assert {conversation.messages[-1].content for conversation in held} == {"a one"}


def test_the_reading_is_in_the_key_of_the_store(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(4)]
    keys = {objective: run_pairs(tmp_path, rows, objective).fingerprint for objective in ("dpo", "simpo", "kto")}
    assert keys["dpo"] == keys["simpo"] != keys["kto"]
    assert run_pairs(tmp_path, rows, rejected="worst").fingerprint != keys["dpo"]


def test_judged_answers_have_their_sides(tmp_path: Path) -> None:
    rows = [
        {"prompt": "A?", "completion": "good one", "label": True},
        {"prompt": "A?", "completion": "good one", "label": False},
        {"prompt": "B?", "completion": "bad one", "label": False},
        {"prompt": "C?", "completion": "word " * 200, "label": True},
    ]
    prepared = run_pairs(tmp_path, rows, "kto", max_tokens=128)
    assert prepared.train.sides.tolist() == [1, -1, -1]
    assert answers(prepared, chat_of(Recipe())) == ["good one<|im_end|>", "good one<|im_end|>", "bad one<|im_end|>"]
    assert prepared.ledger.left_out[TOO_LONG].count == 1
    assert prepared.ledger.duplicates.count == 0, "another judgement is another row"
    assert "judged answers   3: 1 good, 2 bad" in prepared.ledger.lines()


def test_rendered_text_is_read_back_on_both_sides(tmp_path: Path) -> None:
    text = "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nOne.<|im_end|>\n<|im_start|>user\nB?<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": text, "chosen": "good<|im_end|>", "rejected": "bad<|im_end|>"}]
    prepared = run_pairs(tmp_path, rows)
    assert answers(prepared, chat_of(Recipe())) == ["good<|im_end|>", "bad<|im_end|>"]
    judged = run_pairs(tmp_path, [{"prompt": text, "completion": "good<|im_end|>", "label": True}], "kto")
    assert answers(judged, chat_of(Recipe())) == ["good<|im_end|>"]


def test_inspection_reads_pairs_as_preparation_does(tmp_path: Path) -> None:
    rows = [*map(pair, range(5)), {"prompt": "x?", "chosen": "Yes.", "rejected": "Yes."}]
    recipe = recipe_of(tmp_path, rows)
    surveyed = survey(recipe, chat_of(recipe)).ledger
    assert surveyed.to_json() == run_pairs(tmp_path, rows).ledger.to_json()
    assert list(surveyed.left_out) == [EQUAL]


def test_supervised_tuning_on_pairs_says_that_the_rejected_answers_are_not_trained(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [pair(1), pair(2)], "sft")
    ledger = prepare(recipe, chat_of(recipe)).ledger
    assert ledger.notes == [
        "2 rows have a chosen and a rejected answer: the chosen one is trained, the rejected one is not "
        "(training.objective: dpo learns from both)"
    ]
