"""The parser of growing answers: what is passed on when. tests/faults/test_22_stream_loses_nothing.py has its properties."""

from __future__ import annotations

import pytest

from instil.generation.parsing.answer_parser import AnswerParser, Delta

CALL = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'


def pushed(pieces, *, begun="", **given):
    parser = AnswerParser(**given)
    parser.begin(begun)
    return [*(parser.push(piece) for piece in pieces), parser.finish()]


@pytest.mark.parametrize(
    ("pieces", "deltas"),
    [
        (["Hi", " there"], [[Delta(content="Hi")], [Delta(content=" there")], []]),
        (["Hi ", "there"], [[Delta(content="Hi")], [Delta(content=" there")], []]),
        (["<th", "ink>a", "</think>\n\nb"], [[], [Delta(reasoning="a")], [Delta(content="b")], []]),
        (["x <tool", "box"], [[Delta(content="x")], [Delta(content=" <toolbox")], []]),
        (["Hi "], [[Delta(content="Hi")], [Delta(content=" ")]]),
    ],
)
def test_a_piece_is_passed_on_as_soon_as_it_is_certain(pieces, deltas):
    assert pushed(pieces, tools=["time"]) == deltas


@pytest.mark.parametrize(
    ("begun", "pieces", "deltas"),
    [
        ("So 2", ["+2"], [[Delta(content="+2")], []]),
        ("So ", ["2"], [[Delta(content="2")], []]),
        ("So", [" 2 "], [[Delta(content=" 2")], [Delta(content=" ")]]),
        ("So ", [" "], [[], [Delta(content=" ")]]),
        ("So ", [""], [[], []]),
        ("<thi", ["nk>a"], [[Delta(reasoning="a")], []]),
        ("<think>\na", ["b</think>", "c"], [[Delta(reasoning="b")], [Delta(content="c")], []]),
        ("x <tool", ["box"], [[Delta(content="box")], []]),
        ("x <tool_call>{", ["}", "!"], [[Delta(content="}")], [Delta(content="!")], []]),
        (f"{CALL}  a", ["b"], [[Delta(content="b")], []]),
        (f"{CALL} ", [" b"], [[Delta(content="b")], []]),
    ],
)
def test_only_the_continuation_of_a_begun_answer_is_passed_on(begun, pieces, deltas):
    assert pushed(pieces, begun=begun, tools=["time"]) == deltas


def test_a_call_is_passed_on_once_and_complete():
    for end in range(len(CALL) + 1):
        returned = pushed([CALL[end:]], begun=CALL[:end], tools=["time"])
        calls = [delta.call for deltas in returned for delta in deltas]
        assert [call.name for call in calls] == (["time"] if end < len(CALL) else [])


def test_reasoning_that_the_prompt_opened_is_continued():
    assert pushed(["b</think>c"], begun="a", in_reasoning=True) == [[Delta(reasoning="b"), Delta(content="c")], []]
