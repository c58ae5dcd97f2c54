"""What must be true of every conversation that is encoded, and random conversations to check it on."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st
from tests.conformance.oracle import trained_spans

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import InstilError

WORDS = st.text(
    st.one_of(st.sampled_from("ab \n\t.,:[]{}()#'\"é天🌈￿"), st.characters(codec="utf-8", exclude_categories=("Cs",))),
    max_size=24,
)
PIECES = st.sampled_from(
    [
        "answer",
        "### Response:",
        "<b>",
        "</think>x",
        "<think>",
        "user: ",
        "[INST]",
        "{{ x }}",
        "{% raw %}",
        "<",
        "|>",
        "\r\n",
        "  ",
    ]
)
TEXTS = st.lists(st.one_of(WORDS, PIECES), max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(TEXTS)})
        messages.append({"role": "assistant", "content": draw(TEXTS)})
    if draw(st.integers(0, 4)) == 0:
        messages.append({"role": "user", "content": draw(TEXTS)})
    return messages


def check_properties(chat: ChatTokenizer, messages: list[dict[str, Any]]) -> Literal["refused", "encoded"]:
    """Assert that each trained span follows serving's prompt and ends with the only stop token in it."""
    try:
        examples = chat.encode(messages)
    except InstilError:
        return "refused"
    controls = {number for number, text in chat.context.added.items() if text in chat.context.controls.control}
    turns = []
    for example in examples:
        ids, weights = list(example.token_ids), list(example.weights)
        assert len(ids) == len(weights)
        assert weights[0] == 0
        for turn, (start, end) in zip(example.turns, trained_spans(weights), strict=True):
            turns.append(turn)
            assert ids[:start] == chat.prompt(messages[:turn])
            assert ids[end - 1] in chat.stop_ids
            assert not set(ids[start : end - 1]) & set(chat.stop_ids)
        text = "".join(str(message["content"]) for message in messages)
        if not any(chat.context.added[number] in text for number in controls):
            assert example.escaped == 0 or example.escaped < 9
    assert sorted(turns) == [
        index for index, message in enumerate(messages) if message["role"] == "assistant" and index
    ]
    return "encoded"
