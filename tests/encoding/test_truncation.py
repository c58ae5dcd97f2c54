from __future__ import annotations

import pytest
from tests.encoding.chats import chat, chat_with, trained, two_turns

from instil.errors import EncodingError

WHOLE = len(chat().encode(two_turns())[0].token_ids)


def test_too_long_is_dropped_and_counted_by_default() -> None:
    short = chat_with(max_tokens=WHOLE - 1)
    assert short.encode(two_turns()) == []
    assert short.report.dropped == 1
    assert chat_with(max_tokens=WHOLE).encode(two_turns()) != []


def test_keep_last_turns_drops_the_oldest_exchange_and_keeps_the_system() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *two_turns()]
    short = chat_with(max_tokens=WHOLE, too_long="keep_last_turns")
    (example,) = short.encode(messages)
    assert short.decode(example.token_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTwo?")
    assert trained(short, example) == ["Second.<|im_end|>"]
    assert (example.turns, example.shortened) == ((4,), "kept_last_turns")


def test_a_truncated_answer_has_no_stop_token() -> None:
    short = chat_with(max_tokens=WHOLE - 2, too_long="truncate_answer")
    (example,) = short.encode(two_turns())
    assert example.shortened == "truncated_answer"
    assert example.token_ids[-1] not in short.stop_ids
    assert example.weights[-1] == 1.0


def test_a_truncated_example_names_only_the_turns_that_are_left() -> None:
    turns = two_turns()
    first = len(chat().encode(turns[:2])[0].token_ids)
    short = chat_with(max_tokens=first - 1, too_long="truncate_answer")
    assert [example.turns for example in short.encode(turns)] == [(1,)]
    assert [example.turns for example in chat_with(max_tokens=WHOLE - 1, too_long="truncate_answer").encode(turns)] == [
        (1, 3)
    ]


def test_an_answer_whose_prompt_is_cut_is_not_trained() -> None:
    prompt = len(chat().prompt(two_turns()[:3]))
    assert chat_with(max_tokens=prompt, too_long="truncate_answer").encode(two_turns()) == []
    assert chat_with(max_tokens=prompt + 1, too_long="truncate_answer").encode(two_turns()) != []


def test_refuse_names_the_limit_and_the_settings() -> None:
    with pytest.raises(EncodingError, match=r"At most 12 are allowed\. Raise data\.max_tokens"):
        chat_with(max_tokens=12, too_long="refuse").encode(two_turns())


def test_plain_text_is_split_with_the_end_only_at_the_end() -> None:
    row = {"messages": [{"role": "assistant", "content": "once upon a time there was a king"}], "plain": True}
    (whole,) = chat().encode(row)
    pieces = chat_with(max_tokens=9).encode(row)
    assert [number for piece in pieces for number in piece.token_ids] == list(whole.token_ids)
    assert len(pieces) > 2
    assert [piece.token_ids[-1] == chat().context.eos_id for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(piece.shortened == "split" and piece.weights[0] == 0 for piece in pieces)


def test_a_plain_prompt_and_its_completion_are_not_parted() -> None:
    row = {
        "messages": [{"role": "user", "content": "once upon a time"}, {"role": "assistant", "content": " was a king"}]
    }
    short = chat_with(max_tokens=9)
    assert short.encode({**row, "plain": True}) == []
    assert short.report.dropped == 1
    (cut,) = chat_with(
        max_tokens=len(chat().encode({**row, "plain": True})[0].token_ids) - 2, too_long="truncate_answer"
    ).encode({**row, "plain": True})
    assert cut.token_ids[-1] != chat().context.eos_id
