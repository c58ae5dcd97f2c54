"""Each syntax of tool calls: what is read, what is no call, and when more text is needed."""

from __future__ import annotations

from typing import Any

import pytest

from instil.conversation import ToolCall
from instil.encoding.turns.call_cursor import Cursor, MoreTextNeededError, NoCallError
from instil.encoding.turns.call_syntax import READERS, read_bare_json

TAG, MISTRAL, PYTHON = "<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"
DEEPSEEK, KIMI, MINIMAX, GEMMA = (
    "<｜tool▁calls▁begin｜>",
    "<|tool_calls_section_begin|>",
    "<minimax:tool_call>",
    "<|tool_call>",
)
JSON = '{"name": "f", "arguments": {"a": 1}}'
DEEPSEEK_CALL = '<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>'
KIMI_CALL = '<|tool_call_begin|>functions.f:3<|tool_call_argument_begin|> {"a": 1} <|tool_call_end|>'
F = ToolCall("f", {"a": 1})


def read(marker: str, text: str, *, final: bool = False, tools: Any = ("f", "g")) -> tuple[tuple[ToolCall, ...], str]:
    """Return the calls behind a marker, and the text behind the calls."""
    cursor = Cursor(text, 0, tools=tools, final=final)
    calls = (READERS[marker] if marker else read_bare_json)(cursor)
    return calls, text[cursor.at :]


READ = [
    (TAG, f"\n{JSON}\n</tool_call>!", (F,), "!"),
    (TAG, f"[{JSON}, {JSON}]</tool_call>", (F, F), ""),
    (TAG, '{"name": "f", "parameters": {"a": 1}, "id": "x"}</tool_call>', (ToolCall("f", {"a": 1}, "x"),), ""),
    (TAG, '{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}</tool_call>', (F,), ""),
    (TAG, '{"name": "f", "arguments": "no json"}</tool_call>', (ToolCall("f", "no json"),), ""),
    (TAG, "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", (F,), ""),
    (TAG, "<function=f>\n<parameter=a>\n two \n\n</parameter></function></tool_call>", (ToolCall("f", {"a": " two \n"}),), ""),
    (TAG, "f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", (F,), ""),
    (MISTRAL, f" [{JSON}]x", (F,), "x"),
    (MISTRAL, 'f[ARGS]{"a": 1}[TOOL_CALLS]', (F,), "[TOOL_CALLS]"),
    (MISTRAL, 'f[CALL_ID]q1[ARGS]{"a": 1}', (ToolCall("f", {"a": 1}, "q1"),), ""),
    (PYTHON, f"{JSON}; {JSON} and", (F, F), " and"),
    (PYTHON, f"{JSON}; and", (F,), "; and"),
    (DEEPSEEK, f"{DEEPSEEK_CALL}\n{DEEPSEEK_CALL}<｜tool▁calls▁end｜>.", (F, F), "."),
    (DEEPSEEK, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", (F,), ""),
    (KIMI, f"{KIMI_CALL}<|tool_calls_section_end|> so", (ToolCall("f", {"a": 1}, "functions.f:3"),), " so"),
    (MINIMAX, '\n<invoke name="f">\n<parameter name="a">1</parameter>\n</invoke>\n</minimax:tool_call>', (F,), ""),
    (MINIMAX, '<invoke name="f"></invoke><invoke name="g"></invoke></minimax:tool_call>', (ToolCall("f", {}), ToolCall("g", {})), ""),
    (GEMMA, "call:f{a:1}<tool_call|>", (F,), ""),
    (GEMMA, 'call:f{<|"|>a b<|"|>:[1,<|"|>x}<|"|>,{}],c:false}<tool_call|>', (ToolCall("f", {"a b": [1, "x}", {}], "c": False}),), ""),
]  # fmt: skip


@pytest.mark.parametrize(("marker", "text", "calls", "rest"), READ, ids=range(len(READ)))
def test_calls_are_read_and_every_beginning_asks_for_more(marker, text, calls, rest):
    assert read(marker, text) == (calls, rest)
    for end in range(len(text) - len(rest)):
        try:
            early = read(marker, text[:end])
        except MoreTextNeededError:
            continue
        # Only what needs no closing tag is certain earlier.
        assert marker in (MISTRAL, PYTHON), (text[:end], early)
        assert early[0] == calls[: len(early[0])]


WRONG = [
    (TAG, "text</tool_call>"), (TAG, f"{JSON} so</tool_call>"), (TAG, '{"name": "h", "arguments": {}}</tool_call>'),
    (TAG, "{}</tool_call>"), (TAG, "[]</tool_call>"), (TAG, '{"name": 3}</tool_call>'), (TAG, "[3]</tool_call>"),
    (TAG, '{"name": "f", "arguments": 3}</tool_call>'), (TAG, '{"name": "f", "arguments": {"a": NaN}}</tool_call>'),
    (TAG, "<function=h></function></tool_call>"), (TAG, "<function=f>text</function></tool_call>"),
    (TAG, "f<arg_key>a</arg_key>text</tool_call>"), (TAG, "f g</tool_call>"), (MISTRAL, "so "), (MISTRAL, "f[ARGS]so"),
    (MISTRAL, "f[ARGS][1]"), (PYTHON, "print(2)"), (PYTHON, "[]"), (DEEPSEEK, "so"), (DEEPSEEK, DEEPSEEK_CALL.replace("f<", "h<")),
    (DEEPSEEK, DEEPSEEK_CALL.replace('{"a": 1}', "[1]")), (DEEPSEEK, f"{DEEPSEEK_CALL} so"), (KIMI, KIMI_CALL.replace(".f", ".h")),
    (KIMI, KIMI_CALL.replace("{", "[")), (KIMI, f"{KIMI_CALL} so"), (MINIMAX, '<invoke name="h">'), (MINIMAX, '<invoke name="f">text'),
    (MINIMAX, "<other>"), (GEMMA, "call:h{"), (GEMMA, "so"), (GEMMA, "call:f{a:b}<tool_call|>"), (GEMMA, "call:f{a:1;}"),
    (GEMMA, "call:f" + "{a:" * 200), (GEMMA, "call:f{a:1}so"), ("", '{"name": "f"}'), ("", '{"name": "f", "arguments": {}, "more": 1}'),
    ("", '{"name": "h", "arguments": {}}'),
]  # fmt: skip


@pytest.mark.parametrize(("marker", "text"), WRONG, ids=range(len(WRONG)))
def test_what_is_no_call_is_told_whatever_follows(marker, text):
    for final in (False, True):
        with pytest.raises(NoCallError):
            read(marker, text, final=final)


@pytest.mark.parametrize("marker", [TAG, DEEPSEEK, KIMI, MINIMAX, GEMMA])
def test_an_answer_may_end_in_front_of_the_closing_tag(marker):
    text = next(text for kind, text, _, _ in READ if kind == marker)
    unclosed = text[: text.rindex("</" if marker in (TAG, MINIMAX) else "<")].rstrip("!. ")
    with pytest.raises(MoreTextNeededError):
        read(marker, unclosed)
    assert read(marker, unclosed, final=True)[0]


@pytest.mark.parametrize(("text", "num_calls"), [(f"{JSON}", 1), (f"{JSON};{JSON}", 2), (f"{JSON}\n{JSON} ", 2)])
def test_bare_json_is_a_call_only_if_nothing_else_is_there(text, num_calls):
    assert len(read("", text, final=True)[0]) == num_calls
    with pytest.raises(NoCallError):
        read("", f"{text} so", final=True)
    with pytest.raises(MoreTextNeededError):
        read("", text)
