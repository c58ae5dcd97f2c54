from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.formats.rows import A, S, U, one

from instil.conversation import Conversation, Message, ToolCall
from instil.data import read, write
from instil.data.formats import FORMATS
from instil.errors import DataError, FormatError, RecipeError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = Message("assistant", None, tool_calls=(ToolCall("f", {"a": 1}, "id1"),))
HARD: dict[str, Conversation] = {
    "reasoning": Conversation((U("q"), Message("assistant", "a", reasoning="r"))),
    "weight": Conversation((U("q"), Message("assistant", "a", weight=0.25))),
    "tools": Conversation((U("q"), CALL, Message("tool", "r", tool_call_id="id1", name="f"), A("a")), (TOOL,)),
    "text beside a call": Conversation((U("q"), replace(CALL, content="let me see"))),
    "several calls": Conversation(
        (U("q"), replace(CALL, content="", tool_calls=(*CALL.tool_calls, ToolCall("g", "x"))))
    ),
    "variables": Conversation((U("q"), A("a")), variables={"enable_thinking": False}),
    "columns": Conversation((U("q"), A("a")), extra={"id": 7, "tags": ["x", None]}),
    "parts": Conversation((Message("user", ({"type": "text", "text": "q"},)), A("a"))),
    "keys": Conversation((Message("user", "q", extra={"agent": "x"}), A("a"))),
    "developer": Conversation((Message("developer", "d"), U("q"), A("a"))),
    "two system": Conversation((S("a"), S("b"), U("q"), A("a"))),
    "plain": Conversation((U("p"), A("c")), plain=True),
    "text": Conversation((A("t"),), plain=True),
    "ends with user": Conversation((U("q"), A("a"), U("r"))),
    "starts with assistant": Conversation((A("a"), U("q"), A("b"))),
    "empty texts": Conversation((S(""), U(""), A(""))),
    "long": Conversation((S("s"), U("1"), A("2"), U("3"), A("4"))),
    "input": Conversation((U("do\nthis"), A("a")), extra={"input": "this"}),
    "rejected": Conversation((U("q"), A("a")), extra={"rejected": "b"}),
}
NEVER_REFUSED = {"messages": set(HARD), "sharegpt": set(HARD) - {"plain", "text"}}


@pytest.mark.parametrize("format", [each.name for each in FORMATS if each.name not in ("pattern", "scored", "kto")])
def test_writing_loses_nothing_or_refuses(format: str, tmp_path: Path) -> None:
    written = 0
    for name, conversation in HARD.items():
        path = tmp_path / "out.jsonl"
        path.unlink(missing_ok=True)
        refusal = _refusal(conversation, path, format)
        if refusal:
            assert f"which {format} cannot hold" in refusal, name
            assert name not in NEVER_REFUSED.get(format, ()), name
            assert not path.exists()
            continue
        written += 1
        back = replace(next(read(path, format)), place=None)
        assert back == conversation, name
    assert written >= 1


def _refusal(conversation: Conversation, path: Path, format: str) -> str:
    try:
        write([conversation], path, format=format)
    except FormatError as error:
        return str(error)
    return ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=3) | st.just("not json")
CALLS = st.lists(st.builds(ToolCall, TEXT.filter(bool), ARGUMENTS, st.none() | TEXT), max_size=2).map(tuple)
WEIGHT = st.none() | st.sampled_from([0.0, 0.5, 1.0])
EXTRA = st.dictionaries(st.sampled_from(["id", "score", "source_name"]), JSON, max_size=2)
OTHERS = st.builds(Message, st.sampled_from(["system", "developer", "user"]), TEXT, extra=EXTRA) | st.builds(
    Message, st.just("tool"), TEXT, tool_call_id=st.none() | TEXT, name=st.none() | TEXT
)
ANSWERS = st.builds(
    Message, st.just("assistant"), TEXT, reasoning=st.none() | TEXT, tool_calls=CALLS, weight=WEIGHT, extra=EXTRA
)
CONVERSATIONS = st.builds(
    Conversation,
    st.lists(OTHERS | ANSWERS, min_size=1, max_size=5).map(tuple),
    st.sampled_from([(), (TOOL,)]),
    st.sampled_from([{}, {"enable_thinking": True}]),
    plain=st.just(False),
    extra=EXTRA,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(conversation=CONVERSATIONS)
@pytest.mark.parametrize("format", [each.name for each in FORMATS if each.name not in ("pattern", "text")])
def test_any_conversation_is_written_exactly_or_refused(format: str, conversation: Conversation) -> None:
    target = next(each for each in FORMATS if each.name == format)
    try:
        row = target.write(conversation)
    except FormatError:
        assert format not in ("messages", "sharegpt")
        return
    row = json.loads(json.dumps(row))
    assert replace(one(row, format), place=None) == conversation
    assert one(row) == one(row, format)


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.jsonl.gz", "out.json.zst", "out.csv", "out.tsv"])
def test_every_container_is_written_and_read(name: str, tmp_path: Path) -> None:
    made = [Conversation((U(f'q "{n}",\n\tx'), A("é\u2028"))) for n in range(3)]
    assert write(made, tmp_path / name, format="question_answer") == 3
    assert [replace(each, place=None) for each in read(tmp_path / name)] == made
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_empty_column_that_means_something_to_the_format_is_refused_by_its_name(tmp_path: Path) -> None:
    conversation = Conversation((U("q"), A("a")), extra={"enable_thinking": []})
    with pytest.raises(FormatError, match=r"a column of its own named 'enable_thinking', which messages would read"):
        write([conversation], tmp_path / "out.jsonl", format="messages")
    assert not (tmp_path / "out.jsonl").exists()


def test_writing_is_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    bad = [Conversation((U("q"), A("a"))), HARD["reasoning"]]
    with pytest.raises(FormatError, match="has reasoning on an assistant message"):
        write(bad, path, format="alpaca")
    assert path.read_text() == "before"
    with pytest.raises(DataError, match=r"cannot be written\. Expected \.jsonl"):
        write(bad, tmp_path / "out.parquet")
    with pytest.raises(FormatError, match=r"is not text\. A table can hold only text"):
        write(bad, tmp_path / "out.csv")
    with pytest.raises(RecipeError, match="'pattern' is read only"):
        write(bad, path, format="pattern")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize(
    "message", [Message("assistant", "\ud800"), Message("assistant", "x", extra={"note": "\ud800"})]
)
def test_half_a_surrogate_pair_is_refused_before_a_byte_is_written(message: Message, tmp_path: Path) -> None:
    conversation = Conversation((Message("user", "Hi"), message))
    for suffix in (".jsonl", ".json", ".jsonl.gz"):
        with pytest.raises(FormatError, match="half a surrogate pair"):
            write([conversation], tmp_path / f"rows{suffix}")
    assert list(tmp_path.iterdir()) == []
