from __future__ import annotations

from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, S, U, one, sides, silent

from instil.conversation import Message
from instil.data.formats import recognise
from instil.errors import DataError, FormatError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SHAPES: dict[str, dict[str, Any]] = {
    "TRL": {"prompt": "q", "completion": "a"},
    "TRL, messages": {"prompt": [user("q")], "completion": [answer("a")]},
    "messages": {"messages": [user("q"), answer("a")]},
    "ShareGPT": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "Alpaca": {"instruction": "q", "input": "", "output": "a"},
    "question and answer": {"question": "q", "answer": "a"},
}


@pytest.mark.parametrize("column", ["label", "kto_tag"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_one_judged_answer(shape: str, column: str) -> None:
    for label, side in ((True, "chosen"), (False, "rejected")):
        (judged,) = sides({**SHAPES[shape], column: label, "id": 7}, "judged")
        assert (judged.messages, judged.side) == ((*silent(U("q")), A("a")), side)
        assert judged.extra == {"id": 7}


@pytest.mark.parametrize(
    ("label", "side"),
    [
        (True, "chosen"),
        (1, "chosen"),
        (1.0, "chosen"),
        ("True", "chosen"),
        ("1", "chosen"),
        (False, "rejected"),
        (0, "rejected"),
        ("false", "rejected"),
        (" 0 ", "rejected"),
    ],
)
def test_a_label_is_true_or_false_in_a_few_spellings(label: Any, side: str) -> None:
    assert sides({"prompt": "q", "completion": "a", "label": label}, "judged")[0].side == side


@pytest.mark.parametrize("label", [None, "good", "bad", "", 2, -1, 0.5, "positive", [True], {}])
def test_any_other_label_is_refused(label: Any) -> None:
    with pytest.raises(DataError, match=rf"{PLACE}: label is .*Expected true or false, 1 or 0"):
        sides({"prompt": "q", "completion": "a", "label": label}, "judged")


def test_the_label_judges_what_follows_the_last_question() -> None:
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]}
    turns = [user("1"), answer("2"), user("3"), call, {"role": "tool", "content": "7"}, answer("4")]
    (judged,) = sides({"messages": turns, "label": 0, "system": "s"}, "judged")
    assert judged.messages[:4] == silent(S("s"), U("1"), A("2"), U("3"))
    assert [message.weight for message in judged.messages[4:]] == [None, None, None]
    (judged,) = sides({"prompt": turns[:3], "completion": turns[3:], "label": 1}, "judged")
    assert [message.weight for message in judged.messages] == [0.0, 0.0, 0.0, None, None, None]


def test_text_may_be_plain() -> None:
    (judged,) = sides({"prompt": "q", "completion": "a", "label": 1}, "judged", prompt_completion="plain")
    assert judged.plain
    assert judged.messages == (*silent(U("q")), A("a"))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"messages": [user("q")]}, "ends with a message of the user"),
        ({"messages": [answer("a")]}, "has no question"),
        ({"prompt": "q", "completion": ""}, "the judged answer is empty"),
        ({"prompt": "q", "completion": None}, "'completion' holds null"),
    ],
)
def test_broken_rows_are_refused_with_their_place(row: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=f"{PLACE}: .*{error}"):
        sides({**row, "label": True}, "judged")


def test_objectives_that_compare_two_answers_name_the_other_one() -> None:
    with pytest.raises(FormatError, match=rf"{PLACE}: has one judged answer \(label\).*Set training.objective: kto"):
        sides({"prompt": "q", "completion": "a", "label": True})


def test_supervised_tuning_reads_good_answers_and_refuses_bad_ones() -> None:
    for shape, row in SHAPES.items():
        found = recognise({**row, "label": False})
        assert found is not None
        assert found[0].name != "kto", shape  # with auto the label stays a column, as in any data set with labels
        assert one({**row, "label": True}, "kto").messages == (U("q"), A("a"))
        with pytest.raises(DataError, match=r"judged bad.*Set training.objective: kto"):
            one({**row, "label": False}, "kto")


def test_a_call_of_a_tool_is_a_judged_answer() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]}
    (judged,) = sides({"prompt": [user("q")], "completion": [call], "label": 1}, "judged")
    assert isinstance(judged.messages[-1], Message)
    assert judged.messages[-1].tool_calls[0].name == "f"
