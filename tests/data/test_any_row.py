"""Claims about rows of any shape: a row is read or refused with its place, and what is written reads back equal or is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from instil.conversation import Conversation, Place
from instil.data import read, write
from instil.data.formats import FORMATS, ReadOptions, read_row, recognise
from instil.data.formats.registry import WRITTEN
from instil.data.side_columns import is_empty
from instil.data.sources.json_rows import parse_line
from instil.errors import DataError, FormatError
from instil.inspection.raw_rows import misspelt_in, unknown_roles_in
from instil.preparation.split import content_hash

PLACE = Place("a.jsonl", 1)
KEYS = (
    *("messages", "conversations", "conversation", "instruction", "input", "output", "history", "system", "prompt"),
    *("completion", "question", "answer", "chosen", "rejected", "text", "code", "context", "instances", "query"),
    *("tools", "functions", "template_variables", "chat_template_kwargs", "enable_thinking", "documents", "plain"),
    *("images", "user", "assistant", "data", "replies", "system_prompt", "response", "instuction", "mesages"),
)
TURN_KEYS = (
    *("role", "content", "from", "value", "weight", "loss", "reasoning", "thinking", "tool_calls", "function_call"),
    *("name", "tool_call_id", "id", "type", "text", "function", "arguments", "parameters", "image_url", "contnet"),
)
WORDS = (
    *("", " ", "user", "assistant", "system", "tool", "developer", "human", "gpt", "function_call", "observation"),
    *("narrator", "[]", "{}", "null", "[1]", '{"name": "f", "arguments": "{}"}', '[{"role": "user", "content": "x"}]'),
    *('{"a": NaN}', '{"a": "\\ud800"}', "text", "image", "\x00", "\ufeff", "😀", "function"),
)


def _turns(exchanges: list[dict[str, str]], speaker: str, text: str) -> list[dict[str, str]]:
    """Write exchanges as turns, the first one's system text in front."""
    names = ("system", "user", "assistant") if speaker == "role" else ("system", "human", "gpt")
    turns = [{speaker: names[0], text: exchanges[0]["system"]}] if "system" in exchanges[0] else []
    for exchange in exchanges:
        turns.append({speaker: names[1], text: exchange["question"]})
        turns.append({speaker: names[2], text: exchange["answer"]})
        if speaker == "role" and "reasoning" in exchange:
            turns[-1]["reasoning"] = exchange["reasoning"]
    return turns


LEAVES: st.SearchStrategy[Any] = (
    st.sampled_from(WORDS) | st.none() | st.booleans() | st.sampled_from((0, 1, -1, 0.5, 10**400, 5e-324, 2**63))
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*KEYS, *TURN_KEYS)), inner, max_size=4)
    ),
    max_leaves=8,
)
TURN = st.builds(
    lambda speaker, text, rest: {**rest, **speaker, **text},
    st.dictionaries(st.sampled_from(("role", "from")), st.sampled_from(WORDS[2:12]) | ANYTHING, min_size=1, max_size=1),
    st.dictionaries(st.sampled_from(("content", "value")), st.sampled_from(WORDS) | ANYTHING, max_size=1),
    st.dictionaries(st.sampled_from(TURN_KEYS), ANYTHING, max_size=2),
)
TURNS = st.lists(TURN, max_size=4)
TEXT = st.sampled_from([word for word in WORDS if word.strip()]) | st.text(min_size=1, max_size=8)
EXCHANGE = st.fixed_dictionaries({"question": TEXT, "answer": TEXT}, optional={"system": TEXT, "reasoning": TEXT})
# rows as people have them: what is drawn from keys alone is hardly ever read
SOUND = st.one_of(
    st.lists(EXCHANGE, min_size=1, max_size=3).map(lambda turns: {"messages": _turns(turns, "role", "content")}),
    st.lists(EXCHANGE, min_size=1, max_size=3).map(lambda turns: {"conversations": _turns(turns, "from", "value")}),
    st.fixed_dictionaries({"instruction": TEXT, "input": st.just("") | TEXT, "output": TEXT}),
    st.fixed_dictionaries({"question": TEXT, "answer": TEXT}),
    st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    st.fixed_dictionaries({"text": TEXT}),
    EXCHANGE.map(lambda turn: {"prompt": turn["question"], "chosen": turn["answer"], "rejected": turn["answer"] + "!"}),
)
DAMAGED = st.builds(
    lambda row, more: {**row, **more}, SOUND, st.dictionaries(st.sampled_from(KEYS), TURNS | ANYTHING, max_size=2)
)
ROW = SOUND | DAMAGED | st.dictionaries(st.sampled_from(KEYS), TURNS | ANYTHING, max_size=5) | TURNS | ANYTHING
OPTIONS = {
    "pattern": ReadOptions({"user": "{question}[[ ({input})]]", "assistant": "{answer}"}),
    "prompt_completion": ReadOptions(prompt_completion="plain"),
}


def test_any_row_is_read_or_refused_with_its_place() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=300, deadline=None)
    @given(ROW, st.sampled_from(["auto", *(each.name for each in FORMATS)]))
    def check(row: Any, format: str) -> None:
        row = parse_line(json.dumps(row).encode(), PLACE)
        misspelt_in(row), unknown_roles_in(row), recognise(row)
        try:
            _, conversations = read_row(row, PLACE, format_name=format, options=OPTIONS.get(format, ReadOptions()))
        except DataError as error:
            assert str(error).startswith("a.jsonl:1")  # noqa: PT017 - both outcomes are right
            outcomes["refused"] += 1
            return
        assert conversations
        content_hash(conversations)
        outcomes["read"] += 1

    check()
    assert min(outcomes["refused"], outcomes["read"]) >= 5, outcomes


ANSWERS = st.one_of(TEXT, st.lists(TEXT, max_size=3), TURNS, TURN, st.lists(TURNS, max_size=2), ANYTHING)
COMPARED = st.fixed_dictionaries(
    {},
    optional={
        "prompt": TEXT | TURNS | ANYTHING,
        "chosen": ANSWERS,
        "rejected": ANSWERS,
        "responses": st.lists(ANSWERS, max_size=3),
        "scores": st.lists(st.integers(0, 3) | ANYTHING, max_size=3),
        "completion": TEXT | TURNS,
        "label": st.booleans() | ANYTHING,
    },
)


def test_any_row_to_compare_is_read_or_refused_with_its_place() -> None:
    outcomes = Counter[str]()

    @settings(max_examples=300, deadline=None)
    @given(COMPARED | SOUND, st.sampled_from(["pairs", "judged"]), st.sampled_from(["all", "worst"]))
    def check(row: Any, reading: Any, rejected: Any) -> None:
        row = parse_line(json.dumps(row).encode(), PLACE)
        options = ReadOptions(reading=reading, rejected=rejected)
        try:
            _, conversations = read_row(row, PLACE, format_name="auto", options=options)
        except DataError as error:
            assert str(error).startswith("a.jsonl:1")  # noqa: PT017 - both outcomes are right
            outcomes["refused"] += 1
            return
        assert conversations
        assert all(one.messages[-1].role == "assistant" for one in conversations)
        if reading == "pairs":
            assert [one.side for one in conversations] == ["chosen", "rejected"] * (len(conversations) // 2)
        else:
            assert {one.side for one in conversations} <= {"chosen", "rejected"}
        outcomes["read"] += 1

    check()
    assert min(outcomes["refused"], outcomes["read"]) >= 5, outcomes


def test_any_conversation_is_written_without_a_loss_or_not_at_all(tmp_path: Path) -> None:
    outcomes, path = Counter[str](), tmp_path / "out.jsonl"

    @settings(max_examples=150, deadline=None)
    @given(ROW, st.sampled_from(WRITTEN))
    def check(row: Any, format: str) -> None:
        try:
            _, conversations = read_row(row, PLACE, format_name="auto", options=ReadOptions())
        except DataError:
            outcomes["not read"] += 1
            return
        for conversation in conversations:
            path.unlink(missing_ok=True)
            try:
                write([conversation], path, format=format)
            except FormatError:
                assert not path.exists()
                outcomes["refused"] += 1
                continue
            assert _bare(next(read(path, format))) == _bare(conversation)
            outcomes["written"] += 1

    check()
    assert min(outcomes["refused"], outcomes["written"]) >= 8, outcomes


def _bare(conversation: Conversation) -> Any:
    """Give everything but the place and the key that reasoning had, of which one is written; JSON has one kind of mapping and of list.

    An empty column gives way to the format's own column of that name.
    """
    filled = {column: value for column, value in conversation.extra.items() if not is_empty(value)}
    return json.dumps(replace(conversation, place=None, extra=filled), default=_fields, sort_keys=True)


def _fields(value: Any) -> Any:
    if not hasattr(value, "role"):
        return _others(value)
    return {name: getattr(value, name) for name in value.__slots__ if name != "reasoning_name"}


def _others(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else {name: getattr(value, name) for name in value.__slots__}
