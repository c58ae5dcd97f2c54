from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.conformance.tokenizers_made import make_tokenizer

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.turns.stop_tokens import Stop, find_stop_tokens, next_text
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering

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


class Lines:
    """A template as text: a header for each role, the contents, and an end for each role."""

    def __init__(self, headers: str, ends: str = "", *, prompt: str = "<a>", refuses_calls: bool = False) -> None:
        self.headers = dict(zip(("user", "assistant", "tool"), headers.split(), strict=True))
        self.end, self.prompt, self.refuses_calls = ends, prompt, refuses_calls

    def __call__(
        self, messages: Sequence[Message], tools: Sequence[Any] = (), *, add_generation_prompt: bool = False
    ) -> Rendering:
        text, runs = "", []
        for index, message in enumerate(messages):
            if message.tool_calls and self.refuses_calls:
                raise TemplateError("no calls")
            text += self.headers[message.role]
            content, field = (message.content, "content") if message.content else ("f()", "tool_calls")
            runs.append((len(text), len(text) + len(content), (index, field), 0))
            text += content + (self.end if message.role == "assistant" else "")
        return Rendering(text + (self.prompt if add_generation_prompt else ""), tuple(runs))


@pytest.mark.parametrize(
    ("headers", "end", "eos", "bos", "answer"),
    [
        ("<u> <a> <t>",    "</s>",         "</s>",  None,   Stop("</s>",   "printed")),
        ("<u> <a> <t>",    "<end>",        "</s>",  None,   Stop("<end>",  "printed")),
        ("<u> <a> <t>",    "<end>\n</s>",  "</s>",  None,   Stop("</s>",   "printed")),
        ("<u> <a> <t>",    "<x><end>",     "</s>",  None,   Stop("<end>",  "printed")),          # the last of a group
        ("<u> <a> <t>",    "<end>\n<x>",   "</s>",  None,   Stop("<end>",  "printed")),          # not behind a gap
        ("<u> <a> <t>",    "",             "</s>",  None,   Stop("<u>",    "opens_next_turn")),
        ("<u> <a> <t>",    "\n",           "</s>",  None,   Stop("<u>",    "opens_next_turn", "\n")),
        ("<u> <a> <t>",    "--",           "</s>",  None,   Stop("</s>",   "appended")),
        ("U: A: T:",       "\n",           "</s>",  None,   Stop("</s>",   "appended")),
        ("<s>U: A: T:",    "\n",           "</s>",  "<s>",  Stop("</s>",   "appended")),         # bos ends nothing
        ("<s>U: A: T:",    "\n",           "<s>",   "<s>",  Stop("<s>",    "opens_next_turn", "\n")),
    ],
)  # fmt: skip
def test_what_ends_an_answer_on_text_alone(
    headers: str, end: str, eos: str | None, bos: str | None, answer: Stop
) -> None:
    render = Lines(headers, end, prompt=headers.split()[1])
    controls = ControlTokens(["<s>", "</s>", "<end>", "<x>", "<u>", "<a>", "<t>"], control=(), guarded=())
    assert find_stop_tokens(render, controls, eos=eos, bos=bos).answer == answer


@pytest.mark.parametrize("refuses_calls", [True, False])
def test_a_call_ends_as_an_answer_does_unless_something_else_is_printed(refuses_calls: bool) -> None:
    controls = ControlTokens(["<end>", "<u>", "<a>", "<t>"], control=(), guarded=())
    printed = find_stop_tokens(Lines("<u> <a> <t>", "<end>", refuses_calls=refuses_calls), controls, eos=None, bos=None)
    assert (printed.call, printed.texts) == (Stop("<end>", "printed"), ("<end>",))
    opened = find_stop_tokens(Lines("<u> <a> <t>", refuses_calls=refuses_calls), controls, eos=None, bos=None)
    assert opened.call == (opened.answer if refuses_calls else Stop("<t>", "opens_next_turn"))


@pytest.mark.parametrize(("owner", "start", "expected"), [(0, 0, 5), (1, 0, 1), (0, 6, 8), (1, 6, 8)])
def test_where_another_messages_text_begins(owner: int, start: int, expected: int) -> None:
    rendering = Rendering("<aaa><b>", ((1, 4, (0, "content"), 0), (5, 6, (1, "content"), 0)))
    assert next_text(rendering, start, owner) == expected
