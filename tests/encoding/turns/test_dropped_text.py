"""What counts as text that the template does not print."""

from __future__ import annotations

import pytest

from instil.conversation import Message, ToolCall
from instil.encoding.turns.dropped_text import (
    documents_missing,
    dropped_from_context,
    dropped_from_turn,
    gaps,
    tools_missing,
)
from instil.template.message_dicts import Shape
from instil.template.tracing import NOT_A_MESSAGE, Rendering

RULES = {"shape": Shape(), "known": frozenset({"/quiet", "assistant", "</think>"})}


@pytest.mark.parametrize(
    ("text", "printed", "missing"),
    [
        ("abc", [], [(0, 3)]),
        ("abc", [(0, 3)], []),
        (" abc\n", [(1, 4)], []),
        ("abcdef", [(4, 6), (0, 2)], [(2, 4)]),
        ("abcdef", [(0, 4), (2, 3)], [(4, 6)]),
        ("a b", [(0, 1), (2, 3)], [(1, 2)]),
        ("  ", [], []),
    ],
)
def test_gaps_are_what_no_range_covers(
    text: str, printed: list[tuple[int, int]], missing: list[tuple[int, int]]
) -> None:
    assert gaps(text, printed) == missing


@pytest.mark.parametrize(
    ("role", "content", "printed", "lost"),
    [
        ("user", "Be quiet", [(0, 8)], None),
        ("user", "Hi /quiet", [(0, 3)], None),
        ("user", "assistant", [], "assistant"),
        ("user", "x</think>y", [(9, 10)], "x</think>"),
        ("assistant", "x</think>y", [(9, 10)], None),
        ("assistant", "x</think>y", [(0, 9)], "y"),
    ],
)
def test_a_context_message(role: str, content: str, printed: list[tuple[int, int]], lost: str | None) -> None:
    runs, at = [], 0
    for start, end in printed:
        runs.append((at, at + end - start, (0, "content"), start))
        at += end - start
    rendering = Rendering("".join(content[start:end] for start, end in printed), tuple(runs))
    dropped = dropped_from_context([Message(role, content)], [0], rendering, **RULES)  # type: ignore[arg-type]
    assert [entry.text for entry in dropped] == ([] if lost is None else [lost])


def test_what_the_prompt_supplies_is_not_lost() -> None:
    completion = Rendering("four", ((0, 4, (1, "content"), 6),))
    message = Message("assistant", "Sure: four")
    supplied = dropped_from_turn(1, message, completion, prompt="<bot>Sure: ", **RULES)  # type: ignore[arg-type]
    assert supplied == ([], False)
    (dropped,), _ = dropped_from_turn(1, message, completion, prompt="<bot>", **RULES)  # type: ignore[arg-type]
    assert str(dropped) == "message 2 (assistant), text: 'Sure:'"


def test_a_name_within_the_printed_id_of_a_call_is_not_lost() -> None:
    call = ToolCall("find", {}, "functions.find:0")
    completion = Rendering("functions.find:0", ((0, 16, (1, "tool_calls.0.id"), 0),))
    message = Message("assistant", None, tool_calls=(call,))
    assert dropped_from_turn(1, message, completion, prompt="", **RULES) == ([], False)  # type: ignore[arg-type]


def test_definitions_and_documents_are_looked_for_in_every_rendering() -> None:
    tool = {"function": {"name": "find", "description": "Find\nit"}}
    name = Rendering("find", ((0, 4, (NOT_A_MESSAGE, "tools.0.function.name"), 0),))
    words = Rendering("Find it", tuple((at, at + 1, (NOT_A_MESSAGE, "tools.0.function.description"), at) for at in (0, 1, 2, 3, 5, 6)))  # fmt: skip
    assert tools_missing([tool], [name, words]) == []
    assert [str(entry) for entry in tools_missing([tool], [name])] == ["tool 1, definition: 'Find it'"]
    document = {"documents": [{"title": "T", "text": "Long text"}]}
    assert [entry.owner for entry in documents_missing(document, [name])] == ["document 1"]
    assert documents_missing({"documents": "none"}, [name]) == []
