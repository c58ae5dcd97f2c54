r"""What the model must generate in a turn, on text alone.

In the texts of these tables QUESTION is the user's text, ANSWER the assistant's, THOUGHT its reasoning and NAME its name;
everything else is the template's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from instil.conversation import Message, ToolCall
from instil.encoding.turns.completion import Turn, find_completion, own_spans
from instil.encoding.turns.stop_tokens import Stop, StopTokens
from instil.errors import EncodingError, TemplateError
from instil.template.tracing import Rendering

FIELDS = {
    "EARLIER": (-1, "content"),
    "QUESTION": (0, "content"),
    "ANSWER": (1, "content"),
    "THOUGHT": (1, "reasoning"),
    "NAME": (1, "name"),
    "CALL": (1, "tool_calls"),
}
ENDS = StopTokens(Stop("<end>", "printed"), Stop("<end>", "printed"), None)
NOTHING = "an answer without more"


def rendering(text: str) -> Rendering:
    found = re.finditer("|".join(FIELDS), text)
    return Rendering(text, tuple((match.start(), match.end(), FIELDS[match.group()], 0) for match in found))


def completion(
    prompt: str,
    upto: str,
    *,
    stops: StopTokens = ENDS,
    answer: Message | None = None,
    tags: Sequence[str] = ("</think>",),
    base: str = "",
) -> str:
    def render(messages: Sequence[Message], add_generation_prompt: bool) -> Rendering:
        if len(messages) == 1 and base:
            return rendering(base)
        raise TemplateError("no other messages in this test")

    messages = [Message("user", "QUESTION"), answer or Message("assistant", "ANSWER")]
    turn = Turn(messages, rendering(prompt), rendering(upto), render, "rows.jsonl:1", tags)
    return find_completion(turn, stops).text


@pytest.mark.parametrize(
    ("prompt", "upto", "expected"),
    [
        # the rendering begins with the prompt
        ("<u>QUESTION<a>",                  "<u>QUESTION<a>ANSWER<end>",               "ANSWER<end>"),
        ("<u>QUESTION<a>",                  "<u>QUESTION<a>ANSWER<end>\n",             "ANSWER<end>"),
        ("<u>QUESTION<a>",                  "<u>QUESTION<a>\nANSWER<end>",             "\nANSWER<end>"),
        ("<u>QUESTION",                     "<u>QUESTION<a>ANSWER<end>",               "<a>ANSWER<end>"),
        ("<u>QUESTION<a>",                  "<u>QUESTION<a><say>ANSWER</say><end>",    "<say>ANSWER</say><end>"),
        ("<u>QUESTION<a>",                  "<u>QUESTION<a><think>THOUGHT</think>ANSWER<end>", "<think>THOUGHT</think>ANSWER<end>"),
        # they agree except for white space: the prompt's is served
        ("<u>QUESTION<a>\n",                "<u>QUESTION<a>ANSWER<end>",               "ANSWER<end>"),
        ("<u>QUESTION<a>\n",                "<u>QUESTION<a> ANSWER<end>",              "ANSWER<end>"),
        ("<u>QUESTION\n\n<a>",              "<u>QUESTION\n<a>ANSWER<end>",             "ANSWER<end>"),
        # history before the last text is rewritten
        ("<new>EARLIER<u>QUESTION<a>",      "<old>EARLIER<u>QUESTION<a>ANSWER<end>",   "ANSWER<end>"),
        ("<u>QUESTION<a>",                  "Rules.<u>QUESTION<a>ANSWER<end>",         "ANSWER<end>"),
        # the prompt supplies a block that history lacks
        ("<u>QUESTION<a><think>\n",         "<u>QUESTION<a>ANSWER<end>",               "\n</think>\n\nANSWER<end>"),
        ("<u>QUESTION<a><think>",           "<u>QUESTION<a>ANSWER<end>",               "</think>ANSWER<end>"),
        ("<u>QUESTION<a><think></think>",   "<u>QUESTION<a>ANSWER<end>",               "ANSWER<end>"),
        ("<u>QUESTION<a><think>\n\n</think>\n\n", "<u>QUESTION<a>ANSWER<end>",         "ANSWER<end>"),
        # history's header has the speaker's name
        ("<u>QUESTION<a>\n",                "<u>QUESTION<a> NAME\nANSWER<end>",        "ANSWER<end>"),
    ],
)  # fmt: skip
def test_the_completion_is_what_follows_servings_prompt(prompt: str, upto: str, expected: str) -> None:
    assert completion(prompt, upto) == expected


@pytest.mark.parametrize(
    ("tail", "answer", "eos", "expected"),
    [
        ("<end>\n",      Stop("<end>", "printed"),            None,   "ANSWER<end>"),
        ("<end></s>",    Stop("<end>", "printed"),            "</s>", "ANSWER<end></s>"),  # eos ends more
        ("<end>\n</s>",  Stop("</s>", "printed"),             "</s>", "ANSWER<end>\n</s>"),
        ("",             Stop("</s>", "appended"),            "</s>", "ANSWER</s>"),
        ("\n",           Stop("</s>", "appended"),            "</s>", "ANSWER</s>"),
        (" --\n",        Stop("</s>", "appended"),            "</s>", "ANSWER --</s>"),
        ("",             Stop("<u>", "opens_next_turn"),      "</s>", "ANSWER<u>"),
        ("\n",           Stop("<u>", "opens_next_turn", "\n"), "</s>", "ANSWER\n<u>"),
    ],
)  # fmt: skip
def test_the_completion_ends_with_the_stop_token(tail: str, answer: Stop, eos: str | None, expected: str) -> None:
    stops = StopTokens(answer, answer, eos)
    assert completion("<u>QUESTION<a>", "<u>QUESTION<a>ANSWER" + tail, stops=stops) == expected


def test_a_call_ends_with_its_own_stop_token() -> None:
    stops = StopTokens(Stop("<end>", "printed"), Stop("<call>", "printed"), None)
    caller = Message("assistant", "", tool_calls=(ToolCall("f", {}),))
    upto = "<u>QUESTION<a>CALL<call>\n<end>"
    assert completion("<u>QUESTION<a>", upto, stops=stops, answer=caller) == "CALL<call>"


def test_reasoning_that_history_drops_is_generated_inside_the_open_block() -> None:
    thinker = Message("assistant", "ANSWER", reasoning="so it is")
    prompt, upto = "<u>QUESTION<a><think>\n", "<u>QUESTION<a>ANSWER<end>"
    assert completion(prompt, upto, answer=thinker) == "so it is\n</think>\n\nANSWER<end>"


def test_what_only_the_prompt_prints_before_its_header_is_not_generated() -> None:
    prompt, upto = "<u>QUESTION\n[Monday]\n<a>", "<u>QUESTION\n<a>ANSWER<end>"
    with pytest.raises(EncodingError, match="serving's prompt ends with"):
        completion(prompt, upto)
    assert completion("<u>QUESTION\n<a>", "[Monday]<u>QUESTION\n<a>ANSWER<end>", base="<u>QUESTION\n") == "ANSWER<end>"


@pytest.mark.parametrize(
    ("prompt", "upto", "reason"),
    [
        ("<u>QUESTION<a>",          "<u>QUESTION<a><end>",                "message 2: the template does not print the assistant's text"),
        ("<u>QUESTION<a>Sure! ",    "<u>QUESTION<a>ANSWER<end>",          r"serving's prompt ends with 'Sure! '"),
        ("<u>QUESTION<a><judge>\n", "<u>QUESTION<a>ANSWER<end>",          r"serving's prompt ends with '<judge>\\n'"),
        ("<u>QUESTION<a>",          "<u>QUESTION<a>ANSWER EARLIER ANSWER<end>", r"another message's text \('EARLIER ANSWER<end>'\) inside this turn"),
        ("<u>QUESTION<a>",          "<u>QUESTION<a><end>ANSWER",          "would have to generate '<end>', which ends its turn"),
        ("<u>QUESTION<a>",          "<u>QUESTION<a>ANSWER\nEARLIER",      "prints no stop token after it"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused_with_the_place(prompt: str, upto: str, reason: str) -> None:
    with pytest.raises(EncodingError, match=rf"^rows\.jsonl:1: message 2: .*{reason.removeprefix('message 2: ')}"):
        completion(prompt, upto)


def test_reasoning_has_no_place_where_the_prompt_closes_the_block() -> None:
    thinker = Message("assistant", "ANSWER", reasoning="THOUGHT")
    with pytest.raises(EncodingError, match="enable_thinking: true"):
        completion("<u>QUESTION<a><think></think>", "<u>QUESTION<a><think>THOUGHT</think>ANSWER<end>", answer=thinker)


def test_calls_that_are_not_printed_are_refused() -> None:
    caller = Message("assistant", "ANSWER", tool_calls=(ToolCall("f", {}),))
    with pytest.raises(EncodingError, match="does not print the tool calls of this turn"):
        completion("<u>QUESTION<a>", "<u>QUESTION<a>ANSWER<end>", answer=caller)


def test_a_name_is_not_the_messages_own_text() -> None:
    assert own_spans(rendering("<a> NAME\nANSWER"), 1) == [(9, 15)]


def test_a_name_that_a_token_follows_is_refused_with_the_remedy_for_names() -> None:
    with pytest.raises(EncodingError, match=r"Remove the name of this message.*or give it weight 0\.$"):
        completion("<u>QUESTION<a>assistant<text>", "<u>QUESTION<a>assistant NAME<text>ANSWER<end>")
