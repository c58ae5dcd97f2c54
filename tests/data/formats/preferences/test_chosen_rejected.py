"""Pairs: rows with chosen and rejected, read for objectives that compare answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, S, U, one, sides, silent

from instil.conversation import Message, ToolCall
from instil.errors import DataError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
HUMAN = "\n\nHuman: q\n\nAssistant: "


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SHAPES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "question": {"question": "q", "chosen": "good", "rejected": "bad"},
    "argilla": {"input": "q", "chosen": "good", "rejected": "bad"},
    "alpaca": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "prompt of messages, answers of text": {"prompt": [user("q")], "chosen": "good", "rejected": "bad"},
    "continuations": {"prompt": [user("q")], "chosen": [answer("good")], "rejected": [answer("bad")]},
    "one message": {"prompt": "q", "chosen": answer("good"), "rejected": answer("bad")},
    "whole conversations": {"chosen": [user("q"), answer("good")], "rejected": [user("q"), answer("bad")]},
    "whole conversations and the prompt": {
        "prompt": [user("q")],
        "chosen": [user("q"), answer("good")],
        "rejected": [user("q"), answer("bad")],
    },
    "one whole, one continuation": {"prompt": "q", "chosen": [user("q"), answer("good")], "rejected": [answer("bad")]},
    "UltraFeedback, binarized": {
        "prompt": "q",
        "prompt_id": "7a",
        "chosen": [user("q"), answer("good")],
        "rejected": [user("q"), answer("bad")],
        "messages": [user("q"), answer("good")],
        "score_chosen": 8.5,
        "score_rejected": 6.0,
    },
    "HH-RLHF": {"chosen": HUMAN + "good", "rejected": HUMAN + "bad"},
    "HH-RLHF with a prompt": {"prompt": HUMAN[:-1], "chosen": " good", "rejected": " bad"},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "ShareGPT, whole": {
        "chosen": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}],
        "rejected": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "bad"}],
    },
    "OpenAI": {
        "input": {"messages": [user("q")], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [answer("good")],
        "non_preferred_output": [answer("bad")],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_one_pair(shape: str) -> None:
    chosen, rejected = sides(SHAPES[shape])
    assert (chosen.side, rejected.side) == ("chosen", "rejected")
    assert chosen.messages == (*silent(U("q")), A("good"))
    assert rejected.messages == (*silent(U("q")), A("bad"))
    assert chosen.extra == rejected.extra
    assert {"chosen", "rejected", "preferred_output", "input"}.isdisjoint(chosen.extra)
    assert (chosen.place, rejected.place) == (PLACE, PLACE)


# Supervised tuning takes a transcript in a prompt as it stands, and refuses a list beside a text.
@pytest.mark.parametrize(
    "shape", sorted(SHAPES.keys() - {"HH-RLHF with a prompt", "prompt of messages, answers of text"})
)
def test_the_chosen_side_is_what_supervised_tuning_reads(shape: str) -> None:
    assert [replace(message, weight=None) for message in sides(SHAPES[shape])[0].messages] == list(
        one(SHAPES[shape]).messages
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair_gives_two_judged_answers(shape: str) -> None:
    good, bad = sides(SHAPES[shape], "judged")
    assert [side.messages for side in (good, bad)] == [side.messages for side in sides(SHAPES[shape])]
    assert (good.side, bad.side) == ("chosen", "rejected")
    assert [side.place.part for side in (good, bad) if side.place] == [0, 1]


def test_common_prompt_is_found_by_messages_not_characters() -> None:
    chosen, rejected = sides({"prompt": "Capital?", "chosen": "Paris.\n", "rejected": "Paris is it."})
    assert [side.messages[1:] for side in (chosen, rejected)] == [(A("Paris.\n"),), (A("Paris is it."),)]
    chosen, rejected = sides({"prompt": "Capital?", "chosen": "Paris.\n", "rejected": " London."})
    assert [side.messages[1].content for side in (chosen, rejected)] == ["Paris.\n", " London."]


@pytest.mark.parametrize(("good", "bad"), [("a", "user"), ("user", "a"), ("assistant", "system"), ("q", "prompt")])
def test_answer_named_user_is_an_answer_and_no_header(good: str, bad: str) -> None:
    chosen, rejected = sides({"prompt": "user", "chosen": good, "rejected": bad})
    assert chosen.messages == (*silent(U("user")), A(good))
    assert rejected.messages == (*silent(U("user")), A(bad))


def test_longer_conversations_keep_every_turn() -> None:
    before = [user("1"), answer("2"), user("3")]
    chosen, rejected = sides({"chosen": [*before, answer("good")], "rejected": [*before, answer("bad")]})
    assert chosen.messages == (*silent(U("1"), A("2"), U("3")), A("good"))
    assert rejected.messages == (*silent(U("1"), A("2"), U("3")), A("bad"))
    later = [user("so?"), answer("end")]
    chosen, rejected = sides(
        {"chosen": [*before, answer("good"), *later], "rejected": [*before, answer("bad"), *later]}
    )
    assert chosen.messages == (*silent(U("1"), A("2"), U("3")), A("good"), U("so?"), A("end"))
    assert rejected.messages[3:] == (A("bad"), U("so?"), A("end"))


def test_tools_calls_reasoning_system_and_variables_are_kept() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "tool", "content": "7"}
    row = {
        "system": "Be brief.",
        "tools": [TOOL],
        "template_variables": {"enable_thinking": True},
        "prompt": [user("q")],
        "chosen": [call, result, {**answer("7"), "reasoning_content": "the tool says 7"}],
        "rejected": [call, result, answer("8")],
    }
    chosen, rejected = sides(row)
    calls = Message("assistant", None, tool_calls=(ToolCall("f", {}),))
    assert chosen.messages[:4] == rejected.messages[:4] == silent(S("Be brief."), U("q"), calls, Message("tool", "7"))
    assert chosen.messages[4:] == (Message("assistant", "7", reasoning="the tool says 7"),)
    assert rejected.messages[4:] == (A("8"),)
    assert chosen.tools == rejected.tools == (TOOL,)
    assert chosen.variables == rejected.variables == {"enable_thinking": True}
    called = sides({**row, "chosen": [call], "rejected": [answer("I cannot.")]})
    assert called[0].messages[-1] == calls
    assert called[1].messages[-1] == A("I cannot.")


def test_orca_has_a_system_text_and_a_question() -> None:
    chosen, rejected = sides({"system": "", "question": "q", "chosen": "good", "rejected": "bad"})
    assert chosen.messages[0] == rejected.messages[0] == silent(U("q"))[0]
    chosen, rejected = sides({"system": "s", "question": "q", "chosen": "good", "rejected": "bad"})
    assert chosen.messages == (*silent(S("s"), U("q")), A("good"))


def test_rows_with_more_than_two_answers_are_not_dropped() -> None:
    texts = {"prompt": "q", "chosen": "good", "rejected": ["worse", "bad"]}
    lists = {"prompt": [user("q")], "chosen": [answer("good")], "rejected": [[answer("worse")], [answer("bad")]]}
    for row in (texts, lists):
        pairs = sides(row)
        assert [side.side for side in pairs] == ["chosen", "rejected"] * 2
        assert [side.messages[-1].content for side in pairs] == ["good", "worse", "good", "bad"]
        assert [side.place.part for side in pairs if side.place] == [0, 0, 1, 1]
        assert [side.messages[-1].content for side in sides(row, rejected="worst")] == ["good", "bad"]
        assert [side.messages[-1].content for side in sides(row, "judged")] == ["good", "worse", "bad"]
        assert [side.side for side in sides(row, "judged", rejected="worst")] == ["chosen", "rejected"]


def test_each_of_several_rejected_answers_has_its_own_common_prompt() -> None:
    row = {
        "chosen": [user("q"), answer("a"), user("r"), answer("good")],
        "rejected": [[user("q"), answer("a"), user("r"), answer("bad")], [user("q"), answer("b")]],
    }
    first, _, second, last = sides(row)
    assert [message.weight for message in first.messages] == [0.0, 0.0, 0.0, None]
    assert [message.weight for message in second.messages] == [0.0, None, None, None]
    assert last.messages == (*silent(U("q")), A("b"))


def test_equal_sides_and_a_side_that_is_the_beginning_of_the_other_are_given_out_as_they_are() -> None:
    chosen, rejected = sides({"prompt": "q", "chosen": "same", "rejected": "same"})
    assert chosen.messages == rejected.messages == (*silent(U("q")), A("same"))
    long = [user("q"), answer("a"), user("r"), answer("b")]
    chosen, rejected = sides({"chosen": long, "rejected": long[:2]})
    assert rejected.messages == (*silent(U("q")), A("a"))
    assert chosen.messages == (*silent(U("q")), A("a"), U("r"), A("b"))


def test_differing_prompts_are_given_out_as_they_are() -> None:
    chosen, rejected = sides({"chosen": [user("q"), answer("a")], "rejected": [user("r"), answer("a")]})
    assert chosen.messages == (U("q"), A("a"))
    assert rejected.messages == (U("r"), A("a"))


def test_weights_of_the_row_hold_in_the_answers_and_not_in_the_prompt() -> None:
    before = [user("1"), {**answer("2"), "weight": 0.5}, user("3")]
    row = {"prompt": before, "chosen": [{**answer("good"), "weight": 0.25}], "rejected": [answer("bad")]}
    chosen, rejected = sides(row)
    assert [message.weight for message in chosen.messages] == [0.0, 0.0, 0.0, 0.25]
    assert [message.weight for message in rejected.messages] == [0.0, 0.0, 0.0, None]
    # A turn that differs in its weight alone is still common.
    row = {"chosen": [*before, answer("good")], "rejected": [user("1"), answer("2"), user("3"), answer("bad")]}
    assert [side.messages[:3] for side in sides(row)] == [silent(U("1"), A("2"), U("3"))] * 2


PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad"}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({**PAIR, "chosen": None}, r"chosen is null\. Expected an answer: text or messages\. Remove the row"),
    ({**PAIR, "rejected": ""}, "rejected is empty"),
    ({**PAIR, "rejected": " \n"}, "rejected is empty"),
    ({**PAIR, "rejected": []}, "rejected is empty"),
    ({**PAIR, "rejected": 5}, "rejected is a number"),
    ({**PAIR, "rejected": ["worse", None]}, r"rejected\[1\] is null"),
    ({**PAIR, "chosen": ["good", "better"]}, "'chosen' is a list of 2 answers"),
    ({"chosen": "good", "rejected": "bad"}, "chosen is a text, and there is no prompt"),
    ({"prompt": "", "chosen": "good", "rejected": "bad"}, "chosen is a text, and there is no prompt"),
    ({"chosen": [answer("good")], "rejected": [answer("bad")]}, "chosen is an answer alone, and there is no prompt"),
    ({**PAIR, "rejected": [user("q")]}, r"rejected ends with a message of the user\. Expected the assistant's answer"),
    ({**PAIR, "rejected": [user("q"), answer("")]}, "rejected ends with an empty answer"),
    ({**PAIR, "rejected": [answer("bad"), answer("worse")]}, "rejected is 2 messages of the assistant in a row"),
    ({**PAIR, "rejected": [{"role": "gpt", "content": "x"}]}, "rejected: message 1 has role 'gpt'"),
    ({**PAIR, "rejected": [{"from": "narrator", "value": "x"}]}, "rejected: message 1 is from 'narrator'"),
    ({**PAIR, "rejected": [7]}, "rejected: message 1 is a number"),
    ({**PAIR, "prompt": [user("q")], "rejected": [user("r"), answer("bad")]}, "rejected starts with a message of the"),
    ({"chosen": HUMAN + "good", "rejected": "\n\nHuman: q"}, "rejected is a text, and there is no prompt"),
    ({"chosen": HUMAN, "rejected": HUMAN + "bad"}, "chosen ends with an empty answer"),
    (
        {"prompt": [user("q")], "chosen": "good", "rejected": [[user("q"), answer("bad")], [user("r"), answer("bad")]]},
        r"rejected\[1\] starts with a message of the user that the prompt does not start with",
    ),
]


@pytest.mark.parametrize(("row", "error"), FAULTS)
@pytest.mark.parametrize("reading", ["pairs", "judged"])
def test_broken_rows_are_refused_with_their_place(row: dict[str, Any], error: str, reading: Any) -> None:
    with pytest.raises(DataError, match=error) as caught:
        sides(row, reading)
    assert str(caught.value).startswith("a.jsonl:1: ")
    assert str(caught.value).count(". ") >= 2  # what is allowed, and what to do


def test_a_label_of_text_beside_whole_conversations_stays_a_column() -> None:
    before = [{"role": "system", "content": "s"}, user("q")]
    row = {"prompt": "a title", "chosen": [*before, answer("good")], "rejected": [*before, answer("bad")]}
    chosen, rejected = sides(row)
    assert chosen.extra == rejected.extra == {"prompt": "a title"}
    assert chosen.messages == (*silent(S("s"), U("q")), A("good"))


def test_a_system_message_of_the_prompt_stands_before_whole_conversations() -> None:
    row = {
        "prompt": [{"role": "system", "content": "s"}],
        "chosen": [user("q"), answer("good")],
        "rejected": [user("q"), answer("bad")],
    }
    chosen, rejected = sides(row)
    assert [side.messages for side in (chosen, rejected)] == [
        (*silent(S("s"), U("q")), A("good")),
        (*silent(S("s"), U("q")), A("bad")),
    ]
