"""Every character of a trained turn is in the trained text, or the row is refused, or its loss is accepted and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.oracle import trained_spans
from tests.encoding.both_ways import in_batches, one_by_one
from tests.faults.test_01_message_that_the_template_drops import END, FIRST_SYSTEM, TOOL, chat, talk
from tests.tiny_chat import CHATML, tiny_tokenizer
from tests.training.command_line import exit_code

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import DroppedTextError

OPEN, CLOSE = "{{ '<|im_start|>' + m.role + '\\n' }}", "{{ '<|im_end|>\\n' }}"
TOOLS = "{% if tools %}{{ '<|im_start|>system\\n' }}{{ tools | tojson }}" + CLOSE + "{% endif %}"


def printing(answer: str) -> str:
    """A template with tools, in which `answer` prints the content and calls of a message ``m``."""
    return TOOLS + "{% for m in messages %}" + OPEN + answer + CLOSE + "{% endfor %}" + END


CALLS = "{% for c in m.tool_calls %}{{ '[' + c.function.name + ' ' }}{{ c.function.arguments | tojson }}{{ ']' }}{% endfor %}"
WHOLE = printing("{{ m.content }}{% if m.tool_calls %}" + CALLS + "{% endif %}")
CALL_ONLY = printing("{% if m.tool_calls %}" + CALLS + "{% else %}{{ m.content }}{% endif %}")
FIRST_CALL = printing(
    "{{ m.content }}{% if m.tool_calls %}" + CALLS.replace("m.tool_calls", "m.tool_calls[:1]") + "{% endif %}"
)
STRINGS_ONLY = printing(
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ '[' + c.function.name }}{% for k, v in c.function.arguments.items() %}"
    "{{ ' ' + k + '=' + (v if v is string else '') }}{% endfor %}{{ ']' }}{% endfor %}"
)
NAMES_ONLY = printing("{{ m.content }}{% for c in m.tool_calls or [] %}{{ '[' + c.function.name + ']' }}{% endfor %}")
CUT = CHATML.replace("message['content']", "message['content'][:20]")
LAST_LINE = CHATML.replace("message['content']", "message['content'].split('\\n')[-1]")
AFTER_TAG = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
FIRST_THOUGHT = "{% for m in messages %}" + OPEN + "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content.split('\\n')[0] + '</think>' }}{% endif %}{{ m.content }}" + CLOSE + "{% endfor %}" + END  # fmt: skip


def calling(content: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {"id": f"call{n}", "type": "function", "function": {"name": "look_up", "arguments": some}}
        for n, some in enumerate(arguments)
    ]
    turns = [{"role": "user", "content": "Look"}, {"role": "assistant", "content": content, "tool_calls": calls}]
    return {"messages": turns, "tools": [TOOL]}


def thinking(content: str, reasoning: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": content, "reasoning": reasoning}]
    return {"messages": turns}


LONG = "A story of a fox that does not end after twenty characters."
LOST = {
    "text beside a call": (CALL_ONLY, calling("Let me see.", {"word": "sea"}), "text: 'Let me see.'"),
    "second call": (FIRST_CALL, calling("", {"word": "sea"}, {"word": "lake"}), "tool call 2: 'look_up'"),
    "arguments": (NAMES_ONLY, calling("", {"word": "sea"}), "tool call 1: 'word'"),
    "a number": (STRINGS_ONLY, calling("", {"word": "sea", "most": 375}), "tool call 1: '375'"),
    "end of an answer": (CUT, talk(("user", "Tell"), ("assistant", LONG)), "text: 't does not end after twenty characters.'"),
    "first lines": (LAST_LINE, talk(("user", "Tell"), ("assistant", "One\nTwo\nThree")), "text: 'One Two'"),
    "a mention of a tag": (AFTER_TAG, talk(("user", "?"), ("assistant", "Write <think> and </think> here")), "text: 'Write <think> and </think>'"),
    "rest of the reasoning": (FIRST_THOUGHT, thinking("So.", "First.\nSecond."), "reasoning: 'Second.'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_what_is_dropped_of_an_answer_is_refused_or_accepted_and_counted(name: str) -> None:
    template, row, found = LOST[name]
    strict, lenient = (
        chat(template, inline_reasoning="keep"),
        chat(template, inline_reasoning="keep", dropped_text="accept"),
    )
    with pytest.raises(DroppedTextError) as refused:
        strict.encode(row)
    assert f"message 2 (assistant), {found}" in str(refused.value)
    (example,) = lenient.encode(row)
    assert f"message 2 (assistant), {found}" in example.dropped
    assert lenient.report.dropped_text == len(example.dropped)
    assert all(isinstance(result, str) for result in in_batches(strict, [row] * 3))
    assert in_batches(lenient, [row] * 3) == one_by_one(lenient, [row] * 3)


def test_an_answer_that_another_row_shows_whole_is_still_checked() -> None:
    """A short answer is whole under a template that cuts; the plan of its shape is not used for a long one."""
    short, long = (talk(("user", "Tell"), ("assistant", text)) for text in ("A short story.", LONG))
    results = in_batches(chat(CUT), [short, long, short])
    assert [isinstance(result, str) for result in results] == [False, True, False]
    by_length = CHATML.replace(
        "message['content']", "(message['content'][:20] if message['content']|length > 30 else message['content'])"
    )
    results = in_batches(chat(by_length), [short, long, short])
    assert [isinstance(result, str) for result in results] == [False, True, False]


WHOLE_ROWS = {
    "text and two calls": (WHOLE, calling("Let me see.", {"word": "sea \"x\"\n", "most": 3, "all": True}, {"word": "lake"})),
    "arguments as text": (WHOLE, calling("", {"word": "é", "deep": {"a": [1.5, "b", None]}})),
    "tags printed by the template": (CHATML, talk(("user", "?"), ("assistant", "<think>Hm</think>So."))),
    "white space at the ends": (CHATML.replace("message['content']", "message.content | trim"), talk(("user", "?"), ("assistant", "\n So.  \n"))),
    "JSON": (CHATML.replace("message['content']", "(message.content | tojson)"), talk(("user", "?"), ("assistant", 'Say "é"\n\tand \\'))),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_whole_answers_are_no_loss(name: str) -> None:
    template, row = WHOLE_ROWS[name]
    (example,) = chat(template).encode(row)
    assert example.dropped == ()
    assert trained_spans(example.weights)


@pytest.mark.parametrize("content", ["<think>Hm hm</think>So.", "Hm hm</think>So."])
def test_reasoning_that_a_template_has_no_place_for_is_counted_as_such(content: str) -> None:
    """It is a warning (`unused_reasoning`) and no refusal: the answer itself is whole."""
    ours = chat(AFTER_TAG, inline_reasoning="keep")
    (example,) = ours.encode(talk(("user", "?"), ("assistant", content)))
    assert ours.report.reasoning_ignored == 1
    assert example.dropped == ()


@pytest.mark.parametrize(
    ("template", "missing", "present"),
    [
        (CALL_ONLY, "text beside a tool call (dropped)", "two tool calls in a turn"),
        (FIRST_CALL, "two tool calls in a turn (dropped)", "text beside a tool call"),
        (CUT, "long texts (dropped)", "a system message"),
        (FIRST_SYSTEM, "a second system message (dropped)", "a system message"),
        (CHATML, "tool definitions (dropped)", "long texts"),
    ],
)
def test_the_proof_tells_what_a_template_cannot_carry(template: str, missing: str, present: str) -> None:
    proof = ChatTokenizer.from_tokenizer(tiny_tokenizer(), template).prove()
    assert missing in proof.not_carried
    assert not any(line.startswith(present + " (") for line in proof.not_carried)
    assert proof.passed
    assert proof.lines()[1] == f"the template does not carry: {', '.join(proof.not_carried)}"


def test_inspect_counts_the_rows_and_lists_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.jinja").write_text(CUT, "utf-8")
    rows = [
        talk(("user", "Tell"), ("assistant", text)) for text in ("Short.", LONG, "Short too.", LONG + " It goes on.")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    template = str(tmp_path / "cut.jinja")
    words = ["inspect", str(tmp_path / "rows.jsonl"), "--model", "demo", "--template", template, "--json"]
    exit_code(*words)
    report = json.loads(capsys.readouterr().out)
    kept = [finding for finding in report["findings"]["kept"] if finding["kind"] == "dropped_text"]
    assert [finding["place"].rpartition(":")[2] for finding in kept] == ["2", "4"]
    assert report["ledger"]["left_out"]["template drops text"]["count"] == 2
    assert "long texts (dropped)" in report["proof"]["not_carried"]
    exit_code(*words, "--data.dropped_text", "accept")
    report = json.loads(capsys.readouterr().out)
    assert report["ledger"]["rows_trained"] == 4
    assert any("2 texts are not printed by the template" in note for note in report["ledger"]["notes"])
