"""Turns and parts of turns that the data marks as not to be trained, in the keys of several tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.encoding.both_ways import in_batches, one_by_one
from tests.inspection.small_chat import other_template, small_chat

from instil.conversation import Message, PartWeight, Place
from instil.conversation.message_reading import message_from_dict
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.messages import message_to_dict
from instil.errors import DataError
from instil.inspection.inspection import Inspection
from instil.recipe import Recipe

QUESTION = {"role": "user", "content": "Capital of Chile?"}
AGAIN = {"role": "user", "content": "Sure?"}
WRONG = {"role": "assistant", "content": "Lima."}
RIGHT = {"role": "assistant", "content": "Santiago."}
PLACE = Place("rows.jsonl", 1)


def _trained(row: Any, chat: Any = None) -> str:
    """Return what training writes of a row: the text of its tokens with a weight above 0."""
    chat = chat or small_chat()
    _, (conversation,) = read_row(row, PLACE, format_name="auto", options=ReadOptions())
    return "|".join(
        chat.decode([token for token, weight in zip(example.token_ids, example.weights, strict=True) if weight > 0])
        for example in chat.encode(conversation)
    )


def _answers(**marks: Any) -> list[dict[str, Any]]:
    return [QUESTION, {**WRONG, **marks}, AGAIN, RIGHT]


@pytest.mark.parametrize(
    "marks",
    [{"train": False}, {"training": False}, {"weight": 0}, {"loss": False}, {"loss_weight": 0.0}, {"train": 0}],
    ids=str,
)
def test_a_turn_marked_as_not_trained_is_context_in_messages_and_in_sharegpt(marks):
    assert _trained({"messages": _answers(**marks)}) == "Santiago.<|im_end|>"
    turns = [
        {"from": "human", "value": "Capital of Chile?"},
        {"from": "gpt", "value": "Lima.", **marks},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Santiago."},
    ]
    assert _trained({"conversations": turns}) == "Santiago.<|im_end|>"
    exchanges = [{"input": "Chile?", "output": "Lima.", **marks}, {"input": "Sure?", "output": "Santiago."}]
    assert _trained({"conversation": exchanges}) == "Santiago.<|im_end|>"


@pytest.mark.parametrize("marks", [{"train": True}, {"training": True}, {"train": None}, {}], ids=str)
def test_true_and_null_leave_a_turn_trained(marks):
    assert _trained({"messages": _answers(**marks)}) == "Lima.<|im_end|>Santiago.<|im_end|>"


def test_true_agrees_with_a_number_and_false_does_not():
    assert message_from_dict({**RIGHT, "train": True, "weight": 0.25}).weight == 0.25
    with pytest.raises(DataError, match="two different weights"):
        message_from_dict({**RIGHT, "train": False, "weight": 1})
    with pytest.raises(DataError, match=r"train 'no'\. Expected true, false, or a number"):
        message_from_dict({**RIGHT, "train": "no"})


@pytest.mark.parametrize("key", ["train", "training", "weight", "loss"])
def test_a_part_marked_as_not_trained_is_context(key):
    parts = [{"type": "text", "text": "Is it Lima? ", key: 0}, {"type": "text", "text": "It is Santiago."}]
    row = {"messages": [QUESTION, {"role": "assistant", "content": parts}]}
    assert _trained(row) == "It is Santiago.<|im_end|>"
    lines = [{"type": "text", "value": "Is it Lima?", key: 0}, {"type": "text", "value": " It is Santiago."}]
    assert _trained({"messages": [QUESTION, {"role": "assistant", "content": lines}]}) == " It is Santiago.<|im_end|>"


def test_a_token_over_two_parts_has_the_smaller_weight_and_its_space_does_not_count():
    def trained(*parts: tuple[str, float]) -> str:
        content = [{"type": "text", "value": text, "weight": weight} for text, weight in parts]
        return _trained({"messages": [QUESTION, {"role": "assistant", "content": content}]})

    assert trained(("It is ", 0), ("Santiago.", 1)) == " Santiago.<|im_end|>"
    whole = trained(("It is Santiago.", 1))
    cut = trained(("It is San", 1), ("tiago.", 0))
    assert whole == "It is Santiago.<|im_end|>"
    assert "tiago" not in cut
    assert cut.startswith("It is")
    assert cut.endswith("<|im_end|>")


def test_characters_of_several_tokens_and_emoji_have_the_weight_of_their_part():
    content = [{"type": "text", "value": "🇨🇱 天气 ", "train": False}, {"type": "text", "value": "好🎉"}]
    assert _trained({"messages": [QUESTION, {"role": "assistant", "content": content}]}) == "好🎉<|im_end|>"


@pytest.mark.parametrize("key", ["train_detail", "training_detail"])
@pytest.mark.parametrize("last", [0, 1], ids=["last character", "behind it"])
def test_ranges_of_characters_are_read_with_either_meaning_of_their_end(key, last):
    text = "Not Lima. Santiago."
    detail = [
        {"begin_offset": 0, "end_offset": 8 + last, "train": False},
        {"begin_offset": 9, "end_offset": 18 + last, "train": True},
    ]
    message = {"role": "assistant", "content": text, key: detail}
    assert message_from_dict(message).part_weights == (PartWeight("content", 0, 9, 0.0),)
    assert _trained({"messages": [QUESTION, message]}) == " Santiago.<|im_end|>"
    turn = {"from": "gpt", "value": text, key: detail}
    assert _trained({"conversations": [{"from": "human", "value": "?"}, turn]}) == " Santiago.<|im_end|>"


@pytest.mark.parametrize(
    "detail",
    [
        [{"begin_offset": 0, "end_offset": 4, "train": False}],
        [{"begin_offset": 0, "end_offset": 4}, {"begin_offset": 3, "end_offset": 8}],
        [{"begin_offset": 0, "end_offset": 90}],
        [{"begin_offset": "0", "end_offset": 8}],
        {"begin_offset": 0, "end_offset": 8},
        [],
    ],
    ids=str,
)
def test_ranges_that_are_not_the_complete_text_are_refused(detail):
    with pytest.raises(DataError, match="train_detail"):
        message_from_dict({"role": "assistant", "content": "Santiago.", "train_detail": detail})


def test_reasoning_in_parts_keeps_its_weights_and_an_untrained_turn_has_no_example():
    parts = [{"type": "text", "text": "Lima? ", "train": False}, {"type": "text", "text": "No."}]
    message = message_from_dict({**RIGHT, "reasoning_content": parts})
    assert (message.reasoning, message.part_weights) == ("Lima? No.", (PartWeight("reasoning", 0, 6, 0.0),))
    trained = _trained({"messages": [QUESTION, {**RIGHT, "reasoning_content": parts}]})
    assert "Lima" not in trained
    assert "No." in trained
    assert "Santiago." in trained
    untrained = [{"type": "text", "text": "Santiago.", "train": False}]
    assert small_chat().encode([QUESTION, {"role": "assistant", "content": untrained}]) == []


def test_weights_follow_reasoning_that_is_moved_out_of_the_answer():
    text = "<think>\nLima?\n</think>\n\nSantiago."
    detail = [
        {"begin_offset": 0, "end_offset": 22 + 1, "train": False},
        {"begin_offset": 24, "end_offset": 32, "train": True},
    ]
    row = {"messages": [QUESTION, {"role": "assistant", "content": text, "train_detail": detail}]}
    trained = _trained(row)
    assert "Lima" not in trained
    assert trained.endswith("Santiago.<|im_end|>")


@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", "No, 4", part_weights=(PartWeight("content", 0, 4, 0.0),)),
        Message("assistant", "No, 4", reasoning="Hm 5", part_weights=(PartWeight("reasoning", 0, 2, 0.5),)),
        Message(
            "assistant",
            ({"type": "text", "text": "No"}, {"type": "text", "text": "4"}),
            part_weights=(PartWeight("content.0.text", 0, 2, 0.0),),
        ),
    ],
    ids=["text", "reasoning", "parts"],
)
def test_weights_of_parts_are_written_and_read_back(message):
    assert message_from_dict(json.loads(json.dumps(message_to_dict(message)))) == message


def test_a_tool_call_part_with_its_own_weight_is_refused_by_name():
    call = {"type": "tool_call", "tool_call": {"name": "f", "arguments": {}}, "train": False}
    with pytest.raises(DataError, match="part 1 is a tool call with a weight of its own"):
        message_from_dict({"role": "assistant", "content": [call]})


def test_the_fast_way_and_the_certain_way_agree_and_no_template_sees_a_weight():
    printing = other_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{{ p.text }}{% if p.train is defined or p.weight is defined %}!{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    parts = [{"type": "text", "text": "Lima", "train": False}, {"type": "text", "text": "Santiago"}]
    rows = [
        [QUESTION, RIGHT],
        _answers(train=False),
        [QUESTION, {"role": "assistant", "content": parts}],
        _answers(train_detail=[{"begin_offset": 0, "end_offset": 4, "train": False}]),
        _answers(training=True),
    ]
    for chat in (small_chat(), printing):
        assert in_batches(chat, rows) == one_by_one(chat, rows)
    assert _trained({"messages": rows[2]}, printing) == "Santiago<|im_end|>"


def test_inspect_counts_rows_with_weights_of_parts_and_a_user_turn_that_asks_to_be_trained(tmp_path: Path):
    parts = [
        {"type": "text", "text": "Santiago. ", "train": True},
        {"type": "text", "text": "Or Lima.", "train": False},
    ]
    rows = [
        {"messages": [QUESTION, {"role": "assistant", "content": parts}]},
        {"messages": [{**QUESTION, "train": True}, RIGHT]},
        {"messages": [{**QUESTION, "train": False}, {**RIGHT, "train": True}]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.from_mapping({"data": {"sources": [str(file)]}}, source="test")
    survey = Inspection.of(str(file), recipe).survey()
    assert survey.findings.counts == {"untrained_weight": 1}
    assert survey.ledger.part_weights.count == 1
    assert survey.ledger.part_weights.places == [f"{file}:1"]
    assert any("row with weights of parts" in line for line in survey.ledger.lines())
