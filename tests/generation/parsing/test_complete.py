from __future__ import annotations

import pytest

from instil.conversation import Message, ToolCall
from instil.encoding.turns.inline_reasoning import REASONING_TAGS, split_reasoning
from instil.encoding.turns.reasoning_block import TAG
from instil.generation.parsing.answer_parser import MARKUP
from instil.generation.parsing.complete import opens_reasoning, parse_answer

WEATHER = ToolCall("weather", {"city": "Oslo"})
TIME = ToolCall("time", {})
CALLS = {
    "hermes": ('<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>', (WEATHER,)),
    "two": (
        '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>\n<tool_call>{"name": "time", "arguments": {}}</tool_call>',
        (WEATHER, TIME),
    ),
    "coder": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
        (WEATHER,),
    ),
    "glm": ("<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>", (WEATHER,)),
    "mistral": ('[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}]', (WEATHER,)),
    "mistral-id": (
        '[TOOL_CALLS] [{"name": "time", "arguments": {}, "id": "abcdefghi"}]',
        (ToolCall("time", {}, "abcdefghi"),),
    ),
    "mistral-new": ('[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]time[ARGS]{}', (WEATHER, TIME)),
    "llama": ('{"name": "weather", "parameters": {"city": "Oslo"}}', (WEATHER,)),
    "python-tag": ('<|python_tag|>{"name": "weather", "parameters": {"city": "Oslo"}}', (WEATHER,)),
    "deepseek": (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        (WEATHER,),
    ),
    "deepseek-new": (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Oslo"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        (WEATHER,),
    ),
    "gpt-oss": ('<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Oslo"}', (WEATHER,)),
    "arguments as text": (
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}</tool_call>',
        (WEATHER,),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_read_in_every_common_syntax(name):
    text, calls = CALLS[name]
    said = parse_answer(text)
    assert said.tool_calls == calls
    assert said.content is None
    around = parse_answer(f"<think>\nhm\n</think>\n\n{text}") if name not in ("gpt-oss",) else said
    assert around.tool_calls == calls


def test_text_beside_a_call_is_kept():
    said = parse_answer('I look.\n<tool_call>{"name": "time", "arguments": {}}</tool_call>')
    assert (said.content, said.tool_calls) == ("I look.", (TIME,))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        '{"name": "Ada", "born": 1815}',
        "<tool_call>not json</tool_call>!",
        "[TOOL_CALLS] oops",
        '<tool_call>{"name": 3}</tool_call>',
        "a < b and {x}",
        "",
    ],
)
def test_what_is_no_call_stays_text(text):
    said = parse_answer(text)
    assert (said.content, said.tool_calls, said.reasoning) == (text, (), None)


def test_reasoning_is_split_off():
    assert parse_answer("<think>a\nb</think>\n\nc").reasoning == "a\nb"
    assert parse_answer("[THINK]a[/THINK]c").content == "c"
    opened = parse_answer("a\n</think>\n\nc", in_reasoning=True)
    assert (opened.reasoning, opened.content) == ("a", "c")
    endless = parse_answer("<think>and so on")
    assert (endless.reasoning, endless.content) == ("and so on", "")
    assert parse_answer("and so on", in_reasoning=True).reasoning == "and so on"
    said = parse_answer("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>4")
    assert (said.reasoning, said.content) == ("hm", "4")
    assert parse_answer("the tag <think> in a sentence").reasoning is None


def test_a_prompt_that_opens_reasoning_is_seen():
    assert opens_reasoning("<｜Assistant｜><think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n")
    assert not opens_reasoning("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(("opening", "closing"), REASONING_TAGS, ids=[opening for opening, _ in REASONING_TAGS])
def test_answers_are_parsed_by_the_tags_that_data_is_split_by(opening, closing):
    text = f"{opening}\nHm.\n{closing}\n\nFour"
    parsed = parse_answer(text)
    assert (parsed.reasoning, parsed.content) == ("Hm.", "Four")
    assert parsed == split_reasoning(Message("assistant", text))
    assert opens_reasoning(f"assistant\n{opening}\n")
    assert not opens_reasoning(f"assistant\n{opening}{closing}\n")
    continued = parse_answer(f"Hm.\n{closing}\n\nFour", in_reasoning=True)
    assert continued == parsed
    assert TAG.match(opening)[0] in MARKUP
    assert closing in MARKUP
