"""Claims about fixing rows: what is fixed, what is left alone, and that nothing is silent."""

from __future__ import annotations

import copy
import json

import pytest
from tests.corpus import corpus_path, needs_corpus

from instil.conversation import Place
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.inspection.repair import repair_all, repair_rows
from instil.recipe import Recipe


def read(row, place):
    return read_row(row, place, format_name="auto", options=ReadOptions())[1]


def fix(*rows, stop_tokens=("</s>",)):
    places = [(Place("a.jsonl", number), row) for number, row in enumerate(rows, start=1)]
    return list(repair_rows(places, read=read, stop_tokens=stop_tokens))


def chat(*turns):
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


GOOD = chat(("user", "Hi"), ("assistant", "Hello."))


def test_a_good_row_is_left_as_it_is():
    row = {**GOOD, "id": 7, "note": "mine"}
    (repair,) = fix(row)
    assert repair.after == row
    assert repair.changes == ()


@pytest.mark.parametrize(
    ("row", "after", "change_start"),
    [
        ({"mesages": GOOD["messages"], "id": 1}, {"messages": GOOD["messages"], "id": 1}, "row: key 'mesages' renamed"),
        (
            {"messages": [{"role": "user", "contnet": "Hi"}, {"role": "assistant", "content": "Hello."}]},
            GOOD,
            "message 1: key 'contnet' renamed to 'content'",
        ),
        (chat(("human", "Hi"), ("gpt", "Hello.")), GOOD, "message 2: role 'gpt' changed to 'assistant'"),
        (
            {"instruction": "a", "ouput": "b"},
            {"instruction": "a", "output": "b"},
            "row: key 'ouput' renamed to 'output'",
        ),
        (
            chat(("user", "Hi"), ("assistant", "Hello.</s></s>")),
            GOOD,
            "message 2: </s></s> removed from the end of the answer",
        ),
        (
            {"instruction": "a", "instances": [{"input": "", "output": "b</s>"}]},
            {"instruction": "a", "instances": [{"input": "", "output": "b"}]},
            "column instances message 1: </s> removed",
        ),
        ({"problem": "a", "solution": "b </s>\n"}, {"problem": "a", "solution": "b "}, "column solution: </s> removed"),
        (
            {
                "messages": [
                    *GOOD["messages"][:1],
                    {"role": "assistant", "content": [{"type": "text", "text": "b</s>"}]},
                ]
            },
            {"messages": [*GOOD["messages"][:1], {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]},
            "message 2: </s> removed",
        ),
        (
            chat(("user", "Hi"), ("assistant", "Hello."), ("user", "More"), ("assistant", " ")),
            GOOD,
            "message 4: empty last answer removed (messages 3, 4)",
        ),
    ],
)
def test_what_can_be_fixed_is_fixed_and_reported(row, after, change_start):
    before = copy.deepcopy(row)
    (repair,) = fix(row)
    assert repair.after == after
    assert any(change.startswith(change_start) for change in repair.changes)
    assert repair.before == before == row  # the row that was read is not changed in place


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat(("user", "Hi"), ("assistant", "")), "left out: all of its answers are empty"),
        (chat(("user", "Hi")), "left out: no assistant turn"),
        ({"instruction": "a", "input": "", "output": ""}, "left out: column output is empty"),
        (b'{"messages": [', "left out: not valid JSON"),
        ({"weird": 1}, "left out: found columns weird"),
        ({"problem": "a", "solution": " "}, "left out: message 2 is white space only"),
        ({"instruction": "a", "output": "b", "history": [["q", ""]]}, "left out: message 2 is an empty answer"),
        (chat(("user", "Hi"), ("assistant", "</s>")), "left out: all of its answers are empty"),
        (chat(("narrator", "x"), ("assistant", "y")), "left out: message 1 has role 'narrator'"),
    ],
)
def test_what_cannot_be_fixed_is_left_out_with_the_reason(row, reason):
    (repair,) = fix(row)
    assert repair.after is None
    assert repair.changes[-1].startswith(reason)


def test_an_empty_answer_in_the_middle_stays_as_context_with_weight_0():
    (repair,) = fix(chat(("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")))
    assert [turn.get("weight") for turn in repair.after["messages"]] == [None, 0, None, None]
    assert read(repair.after, repair.place)[0].messages[1].weight == 0


def test_exact_duplicates_are_left_out_with_the_place_of_the_first_even_if_a_fix_made_them_equal():
    repairs = fix(GOOD, chat(("human", "Hi"), ("gpt", "Hello.")), {**GOOD, "id": 3})
    assert [repair.after is None for repair in repairs] == [False, True, True]
    assert repairs[1].changes[-1] == "left out: the same as a.jsonl:1"


def test_only_answers_lose_a_typed_stop_token():
    row = chat(("user", "Write ok</s>"), ("assistant", "Write ok</s>"))
    (repair,) = fix(row)
    assert [message["content"] for message in repair.after["messages"]] == ["Write ok</s>", "Write ok"]
    assert repair.changes == ("message 2: </s> removed from the end of the answer",)


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "\n\nHuman: q\n\nAssistant: ok</s>", "rejected": "\n\nHuman: q\n\nAssistant: no"},
        {"messages": json.dumps(chat(("user", "q"), ("assistant", "ok</s>"))["messages"])},
    ],
)
def test_a_typed_stop_token_that_cannot_be_reached_leaves_the_row_out(row):
    (repair,) = fix(row)
    assert repair.after is None
    assert repair.changes[-1].startswith("left out: ")


def test_fixing_twice_changes_nothing_more():
    rows = [
        {"mesages": GOOD["messages"]},
        chat(("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c</s>")),
        {"conversations": [{"from": "Human", "value": "x"}, {"from": "asistant", "value": "y"}]},
        chat(("system", "s"), ("user", "Hi"), ("assistant", "Hello."), ("user", "x"), ("assistant", "")),
    ]
    once = [repair.after for repair in fix(*rows)]
    assert None not in once
    twice = fix(*once)
    assert [repair.changes for repair in twice] == [()] * len(rows)


def test_every_row_that_differs_has_a_change_that_reports_it():
    rows = [
        GOOD,
        chat(("human", "q"), ("gpt", "a")),
        {"question": "q", "anwser": "a"},
        chat(("user", "x"), ("assistant", "")),
    ]
    repairs = fix(*rows)
    assert len(repairs) == len(rows)
    for repair in repairs:
        assert (json.dumps(repair.before) != json.dumps(repair.after)) == bool(repair.changes)


SETS = (
    "alpaca_1k.json",
    "glaive_toolcall_en_demo.json",
    "identity.json",
    "lf_v1_sft_demo.jsonl",
    "xtuner_openai_sft.jsonl",
)


@pytest.mark.slow
@needs_corpus(len(SETS))
@pytest.mark.parametrize("name", SETS)
def test_published_data_gets_no_key_renamed_and_a_second_fix_changes_nothing(name):
    path = corpus_path() / "datasets" / name
    repairs = list(repair_all(Recipe.from_mapping({"data": {"sources": [str(path)]}}), stop_tokens=("</s>",)))
    assert len(repairs) > 50
    assert not any("renamed" in change for repair in repairs for change in repair.changes)
    kept = [(repair.place, repair.after) for repair in repairs if repair.after is not None]
    assert len(kept) >= 0.85 * len(repairs)
    assert not any(repair.changes for repair in repair_rows(kept, read=read, stop_tokens=("</s>",)))


@pytest.mark.parametrize(
    "answer", [{"role": "assistant", "content": "Hello"}, {"role": "assistant", "content": "x", "weight": 0}]
)
def test_a_row_that_trains_nothing_is_left_out(answer):
    ask = {"role": "user", "content": "What is 6?"}
    messages = [ask, answer] if "weight" in answer else [answer, ask]
    (repair,) = fix({"messages": messages})
    assert repair.after is None
    assert "left out: none of its answers can be trained" in repair.changes[-1]
    (kept,) = fix({"messages": [*messages, ask, {"role": "assistant", "content": "Six"}]})
    assert kept.after is not None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "1+1?", "chosen": "2", "rejected": " 2"}, "both answers are equal"),
        ({"prompt": "1+1?", "chosen": "2", "rejected": "2, I think"}, "one answer is the beginning of the other"),
        ({"prompt": "1+1?", "chosen": "2", "rejected": "3"}, ""),
        ({"prompt": "1+1?", "responses": ["2", "2 ", "3"], "scores": [3, 2, 1]}, ""),
    ],
)
def test_a_row_without_a_pair_is_left_out(tmp_path, row, reason):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    settings = {"data": {"sources": [str(path)]}, "training": {"objective": "dpo"}}
    (repair,) = repair_all(Recipe.from_mapping(settings))
    assert repair.after == (None if reason else row)
    assert bool(repair.changes) is bool(reason)
    assert all(change.startswith(f"left out: {reason}") for change in repair.changes)
