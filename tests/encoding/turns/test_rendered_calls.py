"""Tool definitions and calls that a rendered text shows; tests/faults/test_rendered_rows.py reads whole rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from instil.conversation import Message, ToolCall
from instil.encoding.turns.rendered_calls import call_reader, definitions_in

LOOK: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = '{"name": "look", "arguments": {"city": "Lima"}}'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"<tools>\n{json.dumps(LOOK)}\n{json.dumps(LOOK)}\n</tools> {CALL}", ["look", "look"]),
        (f"[AVAILABLE_TOOLS] [{json.dumps(LOOK)}, {json.dumps(LOOK)}][/AVAILABLE_TOOLS]", ["look", "look"]),
        (json.dumps(LOOK["function"], indent=4), ["look"]),
        (f"{json.dumps(LOOK)} Then: {json.dumps(LOOK)}", ["look"]),
        (CALL, []),
        ('{"name": "look', []),
        ("no braces", []),
    ],
)
def test_definitions_are_the_first_that_stand_together(text: str, names: list[str]) -> None:
    assert [tool["function"]["name"] for tool in definitions_in(text)] == names


def _proposed(text: str, *, tools: tuple[dict[str, Any], ...] = ()) -> list[tuple[str | None, int]]:
    read = call_reader(tools)((Message("assistant", text),))
    return [(message.content, len(message.tool_calls)) for (message,) in read]  # type: ignore[misc]


def test_calls_at_the_end_of_an_answer_are_proposed_with_every_way_to_end_its_text() -> None:
    block = f"<tool_call>\n{CALL}\n</tool_call>"
    assert _proposed(block) == [(None, 1)]
    assert _proposed(f"{block}\n{block}") == [(None, 2)]
    assert _proposed(f"I look.\n\n{block}") == [("I look.\n\n", 1), ("I look.\n", 1), ("I look.", 1)]
    assert _proposed(f"{block} Done.") == [(f"{block} Done.", 0)]
    assert _proposed(CALL) == [(CALL, 0)]
    assert _proposed(CALL, tools=(LOOK,)) == [(None, 1)]


def test_only_answers_hold_calls_and_only_results_are_unquoted() -> None:
    read = call_reader(())
    question = Message("user", f"<tool_call>{CALL}</tool_call>")
    assert list(read((question,))) == [(question,)]
    result = Message("tool", 'a \\"b\\"\\n')
    assert [one.content for (one,) in read((result,))] == [result.content, 'a "b"\n']
    assert next(read((Message("assistant", question.content),)))[0].tool_calls == (ToolCall("look", {"city": "Lima"}),)
