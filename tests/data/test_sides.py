"""Pairs and judged answers through `read`, `write` and rows from memory."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.formats.rows import A, U

from instil.conversation import Conversation, Message, ToolCall
from instil.data import read, write
from instil.data.formats.preferences.pairs import as_judged, as_pair
from instil.data.memory_rows import find_saved_rows, save_rows
from instil.data.side_columns import is_empty
from instil.errors import DataError, FormatError

GOOD, BAD = Conversation((U("q"), A("good")), side="chosen"), Conversation((U("q"), A("bad")), side="rejected")
ROW = {"prompt": "q", "chosen": "good", "rejected": "bad"}


def bare(conversations: Any) -> list[Conversation]:
    return [replace(conversation, place=None) for conversation in conversations]


@pytest.mark.parametrize("objective", ["dpo", "ipo", "simpo", "orpo"])
def test_read_gives_pairs_for_objectives_that_compare_two_answers(objective: Any) -> None:
    assert bare(read([ROW], objective=objective)) == list(as_pair(GOOD, BAD))
    several = [{**ROW, "rejected": ["bad", "worse"]}]
    assert len(list(read(several, objective=objective))) == 4
    assert [one.messages[1] for one in read(several, objective=objective, rejected="worst")] == [A("good"), A("worse")]


def test_read_gives_judged_answers_for_kto_and_one_conversation_by_default() -> None:
    rows = [ROW, {"prompt": "q", "completion": "a", "label": False}]
    assert [one.side for one in read(rows, objective="kto")] == ["chosen", "rejected", "rejected"]
    assert [one.side for one in read([ROW])] == [None]
    with pytest.raises(DataError, match=r"objective: found 'dop' .did you mean 'dpo'.*Expected one of sft, dpo"):
        read([ROW], objective="dop")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"rejected: found 'best'. Expected all or worst"):
        read([ROW], rejected="best")  # type: ignore[arg-type]


def test_conversations_of_a_program_are_checked_and_their_prompt_is_not_trained() -> None:
    assert bare(read([GOOD, BAD, GOOD, BAD], objective="dpo")) == list(as_pair(GOOD, BAD)) * 2
    assert bare(read([BAD, GOOD], objective="kto")) == [as_judged(BAD, "rejected"), as_judged(GOOD, "chosen")]
    assert bare(read([GOOD, BAD])) == [GOOD, BAD]
    faults: list[tuple[list[Conversation], str]] = [
        ([GOOD], r"rows\[0\]: is a chosen Conversation alone"),
        ([GOOD, BAD, BAD], r"rows\[2\]: is a rejected Conversation alone"),
        ([GOOD, GOOD, BAD], r"rows\[0\]: is a chosen Conversation alone"),
        ([replace(GOOD, side=None)], r"rows\[0\]: is a Conversation without a side"),
    ]
    for rows, error in faults:
        with pytest.raises(DataError, match=error):
            list(read(rows, objective="dpo"))
    skipped: list[DataError] = []
    assert len(list(read([GOOD, GOOD, BAD], objective="dpo", on_bad_row="skip", on_error=skipped.append))) == 2
    assert len(skipped) == 1


def test_a_pair_is_one_row_and_two_judged_answers_are_two(tmp_path: Path) -> None:
    pairs, judged = tmp_path / "pairs.jsonl", tmp_path / "judged.jsonl"
    assert write([GOOD, BAD], pairs, format="preference") == 1
    assert json.loads(pairs.read_text()) == {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    assert write([GOOD, BAD], judged, format="kto") == 2
    assert [json.loads(line)["label"] for line in judged.read_text().splitlines()] == [True, False]
    assert write([ROW], pairs, format="preference", objective="dpo") == 1
    assert bare(read(pairs, objective="dpo")) == list(as_pair(GOOD, BAD))


def test_other_formats_refuse_a_side(tmp_path: Path) -> None:
    for format in ("messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"):
        with pytest.raises(FormatError, match=f"side chosen, which {format} cannot hold.*preference.* or .*kto"):
            write([GOOD, BAD], tmp_path / "out.jsonl", format=format)
    for rows in ([GOOD], [BAD, GOOD], [GOOD, replace(GOOD, side=None)]):
        with pytest.raises(FormatError, match="one beside it, which preference cannot hold"):
            write(rows, tmp_path / "out.jsonl", format="preference")
    with pytest.raises(FormatError, match="no judgement, which kto cannot hold"):
        write([replace(GOOD, side=None)], tmp_path / "out.jsonl", format="kto")
    other = replace(BAD, extra={"id": 7})
    with pytest.raises(FormatError, match="other extra than the chosen side"):
        write([GOOD, other], tmp_path / "out.jsonl", format="preference")
    weighted = replace(GOOD, messages=(U("p"), Message("assistant", "r", weight=0.5), *GOOD.messages))
    with pytest.raises(FormatError, match="a weight in the common prompt"):
        write([weighted, replace(weighted, side="rejected")], tmp_path / "out.jsonl", format="preference")
    assert not list(tmp_path.iterdir())


def test_columns_named_as_those_of_a_pair_are_never_lost(tmp_path: Path) -> None:
    title = [replace(side, extra={"prompt": "a title", "id": 7}) for side in (GOOD, BAD)]
    write(title, tmp_path / "a.jsonl", format="preference")
    assert bare(read(tmp_path / "a.jsonl", objective="dpo"))[0].extra == {"prompt": "a title", "id": 7}
    for name, format in (("chosen", "preference"), ("label", "kto")):
        clash = [replace(side, extra={name: "x"}) for side in (GOOD, BAD)]
        with pytest.raises(FormatError, match=f"a column of its own named '{name}'"):
            write(clash, tmp_path / "b.jsonl", format=format)


def test_rows_from_memory_keep_their_sides_and_their_numbers(tmp_path: Path) -> None:
    third = Conversation((U("r"), A("s")), side="rejected")
    rows = [GOOD, BAD, third, GOOD, {"prompt": "q", "completion": "a", "label": 1}]
    file = find_saved_rows(save_rows(rows, tmp_path), tmp_path)
    judged = list(read(file, objective="kto"))
    assert [one.place.row for one in judged if one.place] == [1, 1, 3, 4, 5]
    assert bare(replace(one, messages=one.messages) for one in judged)[2] == as_judged(third, "rejected")
    pairs = find_saved_rows(save_rows([GOOD, BAD, GOOD, BAD], tmp_path), tmp_path)
    assert bare(read(pairs, objective="dpo")) == list(as_pair(GOOD, BAD)) * 2
    assert [one.messages for one in read(pairs)] == [GOOD.messages] * 2


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
ANSWER = st.one_of(
    TEXT.map(lambda text: [A(text)]),
    st.builds(lambda text, thought: [Message("assistant", text, reasoning=thought)], TEXT, TEXT),
    st.builds(lambda text, weight: [Message("assistant", text, weight=weight)], TEXT, st.sampled_from([0.25, 2.0])),
    TEXT.map(lambda text: [Message("assistant", None, tool_calls=(ToolCall("f", {"x": text}),))]),
    st.builds(
        lambda text, end: [Message("assistant", text, tool_calls=(ToolCall("f", {}),)), Message("tool", text), A(end)],
        TEXT,
        TEXT,
    ),
    st.builds(lambda first, question, last: [A(first), U(question), A(last)], TEXT, TEXT, TEXT),
)
QUESTIONS = st.one_of(
    TEXT.map(lambda text: [U(text)]),
    st.builds(lambda system, text: [Message("system", system), U(text)], TEXT, TEXT),
    st.builds(lambda one, two, three: [U(one), A(two), U(three)], TEXT, TEXT, TEXT),
)
COLUMNS = st.dictionaries(
    st.sampled_from(["id", "prompt", "score_chosen", "source"]), TEXT | st.integers(0, 9), max_size=2
)
TOOLS = st.sampled_from([(), ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},)])


@pytest.mark.slow
def test_any_pair_is_written_and_read_back_without_a_loss(tmp_path: Path) -> None:
    outcomes = Counter[str]()

    @settings(max_examples=150, deadline=None)
    @given(QUESTIONS, QUESTIONS | st.none(), ANSWER, ANSWER, COLUMNS, TOOLS)
    def check(prompt: Any, other: Any, good: Any, bad: Any, extra: Any, tools: Any) -> None:
        chosen = Conversation((*prompt, *good), tools, extra=extra, side="chosen")
        rejected = replace(chosen, messages=(*(other or prompt), *bad), side="rejected")
        for format, expected in (
            ("preference", list(as_pair(chosen, rejected))),
            ("kto", [as_judged(chosen, "chosen"), as_judged(rejected, "rejected")]),
        ):
            path = tmp_path / f"{format}.jsonl"
            path.unlink(missing_ok=True)
            try:
                write([chosen, rejected], path, format=format)
            except FormatError:
                assert not path.exists()
                outcomes[f"{format} refused"] += 1
                continue
            objective: Any = "dpo" if format == "preference" else "kto"
            back = list(read(path, objective=objective))
            assert [one.side for one in back] == ["chosen", "rejected"]
            # An empty column gives way to the format's own column of that name, which is the prompt's alone here.
            if is_empty(extra.get("prompt", 0)) and "prompt" not in back[0].extra:
                left = {key: value for key, value in extra.items() if key != "prompt"}
                expected = [replace(one, extra=left) for one in expected]
            assert bare(back) == bare(expected)
            write(back, tmp_path / "again.jsonl", format=format)
            assert (tmp_path / "again.jsonl").read_text() == path.read_text()
            outcomes[format] += 1

    check()
    assert min(outcomes["preference"], outcomes["kto"]) >= 60, outcomes
