from __future__ import annotations

import pytest
from tests.conformance.tokenizers_made import make_tokenizer

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.reasoning_block import closing_text, is_closing, supplied_block
from instil.encoding.turns.stop_tokens import Stop
from instil.errors import EncodingError

TURNS = "{% for m in messages %}"
ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
CALLS = "{% for c in m.tool_calls %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}"
SPECIAL = (
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|system|>",
    "<|end|>",
    "<|call|>",
    "<|a_begin|>",
    "<|a_end|>",
    "<|q|>",
)


def chat(body: str, *, eos: str = "</s>", after: str = "", added: tuple[str, ...] = ("</call>",)) -> ChatTokenizer:
    source = TURNS + "<|{{ m.role }}|>{{ m.content }}" + body + "{% endfor %}" + ASK + after
    return ChatTokenizer.from_tokenizer(
        make_tokenizer("byte_level", template=source, special=SPECIAL, eos=eos, added=added)
    )


@pytest.mark.parametrize(
    ("body", "after", "answer"),
    [
        ("{{ eos_token }}", "", Stop("</s>", "printed")),
        ("<|end|>\n", "", Stop("<|end|>", "printed")),
        ("<|end|>\n", "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}", Stop("</s>", "printed")),
        ("", "", Stop("<|user|>", "opens_next_turn")),
        ("\n", "", Stop("<|user|>", "opens_next_turn", "\n")),
        ("{% if not loop.last %}{{ eos_token }}{% endif %}", "", Stop("</s>", "opens_next_turn")),
        ("\n--\n", "", Stop("</s>", "appended")),
    ],
)
def test_what_ends_an_answer(body: str, after: str, answer: Stop) -> None:
    made = chat(body, after=after)
    assert made.context.stops.answer == answer
    assert made.stop_ids[0] == made.tokenizer.convert_tokens_to_ids(answer.text)
    assert made.context.eos_id in made.stop_ids


def test_a_header_that_the_model_writes_itself_ends_nothing() -> None:
    source = TURNS + "<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    shared = TURNS + "<|a_begin|>{{ m.role }}<|a_end|>{{ m.content }}{% endfor %}"
    made = [make_tokenizer("byte_level", template=each, special=SPECIAL, eos="</s>") for each in (source, shared)]
    assert ChatTokenizer.from_tokenizer(made[0]).context.stops.answer == Stop("<|user|>", "opens_next_turn")
    assert ChatTokenizer.from_tokenizer(made[1]).context.stops.answer == Stop("</s>", "appended")


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (CALLS + "{{ eos_token }}", Stop("</s>", "printed")),
        (CALLS + "{{ '<|call|>' if m.tool_calls else '<|end|>' }}", Stop("<|call|>", "printed")),
        (CALLS, Stop("<|tool|>", "opens_next_turn")),
        (
            "{% for c in m.tool_calls %}<|a_begin|>{{ c.function.name }}{city:<|q|>{{ c.function.arguments.city }}<|q|>}<|a_end|>{% endfor %}"
            "{{ '<|call|>' if m.tool_calls else '<|end|>' }}",
            Stop("<|call|>", "printed"),
        ),
        (
            "{% if m.tool_calls %}<|a_begin|>" + CALLS + "<|a_end|>{% else %}<|end|>{% endif %}",
            Stop("<|end|>", "appended"),
        ),
    ],
)
def test_what_ends_a_tool_call(body: str, call: Stop) -> None:
    assert chat(body).context.stops.call == call


def test_turns_are_told_apart() -> None:
    stops = chat(CALLS + "{{ '<|call|>' if m.tool_calls else '<|end|>' }}").context.stops
    assert stops.for_turn(Message("assistant", "x")).text == "<|end|>"
    assert stops.texts == ("<|end|>", "<|call|>")


def test_without_any_stop_token_the_tokenizer_is_refused() -> None:
    tokenizer = make_tokenizer("byte_level", template=TURNS + "{{ m.role }}: {{ m.content }}\n{% endfor %}")
    with pytest.raises(EncodingError, match="no eos token"):
        _ = ChatTokenizer.from_tokenizer(tokenizer).stop_ids


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|channel>", "<channel|>"), ("◁think▷", "◁/think▷"), ("<|think_start|>", "<|think_end|>"),
    ],
)  # fmt: skip
def test_tags_close_their_own_name_only(opening: str, closing: str) -> None:
    assert is_closing(opening, closing)
    assert not is_closing(opening, "</other>")
    assert not is_closing(closing, opening)
    assert supplied_block(f"A:{opening}\n", "A: b") == (f"{opening}\n", 2)
    assert closing_text(f"{opening}\n", known=[closing, "</other>"]) == f"\n{closing}\n\n"
    assert closing_text(f"{opening}{closing}", known=[]) == ""
    assert closing_text(f"{opening}\n", known=["</other>"]) is None


@pytest.mark.parametrize(
    ("header", "lead", "answer"),
    [
        ("<turn>{{ m.role }}\n", "", Stop("</turn>", "printed")),
        ("<turn>{{ m.role }}\n", "<|a_begin|>", Stop("</turn>", "printed")),
        (
            "<|{{ m.role }}|>",
            "<turn>",
            Stop("</s>", "appended"),
        ),  # the model opens what it closes: a block, not the turn
    ],
)
def test_a_closing_tag_ends_the_turn_whose_header_opens_it(header: str, lead: str, answer: Stop) -> None:
    source = (
        TURNS + header + "{% if m.role == 'assistant' %}" + lead + "{% endif %}{{ m.content }}</turn>\n{% endfor %}"
    )
    source += "{% if add_generation_prompt %}" + header.replace("{{ m.role }}", "assistant") + "{% endif %}"
    made = make_tokenizer("byte_level", template=source, special=(*SPECIAL, "<turn>", "</turn>"), eos="</s>")
    assert ChatTokenizer.from_tokenizer(made).context.stops.answer == answer
