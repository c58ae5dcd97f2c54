from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus import corpus_path, needs_corpus

import instil
from instil.conversation import Conversation, Message, Place, ToolCall
from instil.data import detect, read, write
from instil.data.formats import FORMATS, ReadOptions, read_row, recognise
from instil.errors import DataError, FormatError, RecipeError

PLACE = Place("a.jsonl", 1)
U, A, S = (
    (lambda text: Message("user", text)),
    (lambda text: Message("assistant", text)),
    (lambda t: Message("system", t)),
)


def one(row: Any, format: str = "auto", **options: Any) -> Conversation:
    conversations = read_row(row, PLACE, format_name=format, options=ReadOptions(**options))[1]
    assert len(conversations) == 1
    return conversations[0]


READ: list[tuple[str, Any, tuple[Message, ...]]] = [
    ("messages", {"messages": [{"role": "user", "content": "q"}]}, (U("q"),)),
    ("messages", {"messages": '[{"role": "user", "content": "q"}]'}, (U("q"),)),
    ("messages", [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], (U("q"), A("a"))),
    ("messages", {"history": [{"role": "user", "content": "q"}], "id": 1}, (U("q"),)),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, (U("q"), A("a"))),
    (
        "sharegpt",
        {"conversations": [{"from": "user", "value": "q"}, {"from": "chatgpt", "value": "a"}]},
        (U("q"), A("a")),
    ),
    (
        "sharegpt",
        {"conversations": [{"role": "user", "content": "q"}, {"role": "bard", "content": "a"}]},
        (U("q"), A("a")),
    ),
    ("sharegpt", {"messages": [{"from": "human", "value": "q"}, {"from": "bing", "value": "a"}]}, (U("q"), A("a"))),
    ("sharegpt", [{"from": "human", "value": "q"}], (U("q"),)),
    ("sharegpt", {"conversations": '[{"from": "human", "value": "q"}]'}, (U("q"),)),
    ("sharegpt", {"conversation": '[{"role": "user", "content": "q"}]'}, (U("q"),)),
    ("sharegpt", {"items": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, (U("q"), A("a"))),
    (
        "sharegpt",
        {"conversation": [{"system": "s", "input": "q", "output": "a"}, {"input": "r", "output": "b", "id": 1}]},
        (S("s"), U("q"), A("a"), U("r"), Message("assistant", "b", extra={"id": 1})),
    ),
    ("sharegpt", {"system": "s", "conversations": [{"from": "human", "value": "q"}]}, (S("s"), U("q"))),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "r"},
                {"from": "gpt", "value": "a", "weight": 0},
            ]
        },
        (
            U("q"),
            Message("assistant", None, tool_calls=(ToolCall("f", {"a": 1}),)),
            Message("tool", "r"),
            Message("assistant", "a", weight=0.0),
        ),
    ),
    ("alpaca", {"instruction": "i", "input": "", "output": "o"}, (U("i"), A("o"))),
    ("alpaca", {"instruction": "i", "input": "n", "output": "o"}, (U("i\nn"), A("o"))),
    ("alpaca", {"instruction": "i", "context": "c", "response": "o", "category": "x"}, (U("i\nc"), A("o"))),
    (
        "alpaca",
        {"instruction": "i", "input": None, "output": "o", "system": "s", "history": [["q", "a"]]},
        (S("s"), U("q"), A("a"), U("i"), A("o")),
    ),
    ("alpaca", {"instruction": "i", "instances": [{"input": "n", "output": "o"}]}, (U("i\nn"), A("o"))),
    ("prompt_completion", {"prompt": "p", "completion": "c"}, (U("p"), A("c"))),
    (
        "prompt_completion",
        {
            "prompt": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "r"},
            ],
            "completion": [{"role": "assistant", "content": "c"}],
        },
        (U("q"), Message("assistant", "a", weight=0.0), U("r"), A("c")),
    ),
    ("prompt_completion", {"prompt": "p", "completion": [{"role": "assistant", "content": "c"}]}, (U("p"), A("c"))),
    ("prompt_completion", {"prompt": [{"role": "user", "content": "p"}], "response": "c"}, (U("p"), A("c"))),
    ("question_answer", {"question": "q", "answer": "a"}, (U("q"), A("a"))),
    ("question_answer", {"question": "q", "answer": 4}, (U("q"), A("4"))),
    ("question_answer", {"system_prompt": "s", "question": "q", "response": "a"}, (S("s"), U("q"), A("a"))),
    ("question_answer", {"input": "q", "output": "a"}, (U("q"), A("a"))),
    ("preference", {"prompt": "p", "chosen": "c", "rejected": "r"}, (U("p"), A("c"))),
    ("preference", {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "r"}, (U("q"), A("a"))),
    ("preference", {"instruction": "i", "input": "n", "chosen": "c", "rejected": "r"}, (U("i\nn"), A("c"))),
    (
        "preference",
        {"question": "q", "chosen": [{"role": "assistant", "content": "a"}], "rejected": []},
        (U("q"), A("a")),
    ),
    (
        "preference",
        {
            "prompt": "q",
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "rejected": [],
        },
        (U("q"), A("a")),
    ),
    (
        "preference",
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [],
        },
        (U("q"), A("a")),
    ),
    (
        "preference",
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {}},
        (U("q"), A("a")),
    ),
    ("text", {"text": "t", "meta": {"a": 1}}, (A("t"),)),
    ("text", {"content": "def f(): ...", "lang": "python", "size": 3}, (A("def f(): ..."),)),
]


@pytest.mark.parametrize(("format", "row", "messages"), READ)
def test_rows_are_recognised_and_read(format: str, row: Any, messages: tuple[Message, ...]) -> None:
    found = recognise(row)
    assert found is not None
    assert found[0].name == format
    conversation = one(row)
    assert conversation.messages == messages
    assert conversation.plain == (format == "text")
    assert one(row, format) == conversation


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"instuction": "i", "output": "o"}, "Did you mean 'instruction' instead of 'instuction'"),
        (
            {"Question": "q", "Answer": "a"},
            "Did you mean 'question' instead of 'Question'. Rename it, or .*data.columns",
        ),
        ({"title": "t", "summary": "s"}, "found columns title, summary. Expected one of: .*data.columns"),
        ({"role": "user", "text": "t", "message_id": "1", "replies": []}, "found columns role"),
        ({"messages": [{"role": "user", "content": "q"}], "images": ["a.png"]}, "'images' holds image data. Only text"),
        ({"question": "q", "answer": ["a"]}, "column 'answer' holds a list. Expected text"),
        ({"question": "q", "answer": None}, "column 'answer' holds null"),
        ({"question": "q", "answer": [{"role": "assistant", "content": "a"}]}, "column 'answer' holds a list"),
        ({}, "found columns none. .*Remove it, or leave it out with data.on_bad_row: skip"),
        ({"instruction": ["i", "j"], "output": ["o", "p"]}, "lists of equal length.*one object per row"),
        ({"conversations": []}, "empty list of turns"),
        ({"conversations": "[1"}, "conversations is not a list of turns"),
        ({"conversations": [{"from": "human", "vaule": "x"}]}, r"message 1 .*did you mean 'value' instead of 'vaule'"),
        ({"conversations": [{"form": "human", "value": "x"}]}, r"message 1 .*did you mean 'from' instead of 'form'"),
        ({"conversation": [{"input": 5, "output": "x"}]}, "message 1 has a number for input"),
        ({"conversations": [{"from": "humann", "value": "x"}]}, "message 1 is from 'humann' .*did you mean 'human'"),
        ({"conversations": [{"from": "function_call", "value": "nope"}]}, "tool call that is not a JSON object"),
        ({"system": "a", "conversations": [{"from": "system", "value": "b"}]}, "a different system turn"),
        ({"instruction": "i", "output": "o", "history": [["q"]]}, "something other than pairs"),
        ({"chosen": "c", "rejected": "r"}, "there is no prompt"),
        ("hello", "found a text. Expected an object"),
        (5, "found a number"),
        (None, "found null"),
        ({"messages": None}, r"found columns messages \('messages' holds null\). Expected one of: .* Fix or remove"),
        ({"data": [{"question": "q", "answer": "a"}]}, r"The rows are inside 'data'\. .*jq -c '\.data\[\]'"),
        ({"instuction": "i", "input": "", "output": "o"}, "Did you mean 'instruction' instead of 'instuction'"),
        ({"messages": [{"role": ["user"], "content": "q"}]}, "message 1 has role a list. Expected system"),
        ({"messages": [{"role": None, "content": "q"}]}, "message 1 has role null. Expected system"),
        ({"messages": [{"role": "user", "content": "q", "weight": 10**400}]}, "message 1 has weight 1000.*at least 0"),
        ({"messages": [{"role": "user", "content": "q"}], "tools": "nope"}, "tools is not a list of JSON objects"),
        (
            {"messages": [{"role": "user", "content": "q"}], "tools": '[{"name": "\\ud800"}]'},
            "tools is not a list of JSON",
        ),
        ({"chosen": {"from": "gpt", "value": "a"}, "rejected": {}, "conversations": 5}, "conversations is a number"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row: Any, error: str) -> None:
    with pytest.raises(DataError, match=error) as caught:
        one(row)
    assert str(caught.value).startswith("a.jsonl:1: ")


def test_a_named_format_refuses_rows_of_another() -> None:
    with pytest.raises(FormatError, match=r"looks like question_answer \(columns question, answer\), not alpaca"):
        one({"question": "q", "answer": "a"}, "alpaca")
    with pytest.raises(DataError, match=r"message 1 has role 'gpt'\. Expected .*\. Set data.format: sharegpt"):
        one({"messages": [{"role": "gpt", "content": "x"}]}, "messages")
    assert one({"messages": [{"role": "gpt", "content": "x"}]}, "sharegpt").messages == (A("x"),)  # what the error says
    for wrong in ("hello", 5, None, 1.5, [], {}):
        for format in FORMATS:
            options = {"columns": {"assistant": "{a}"}} if format.name == "pattern" else {}
            if (wrong, format.name) != ("hello", "text"):
                with pytest.raises(DataError, match=r"Expected|no column"):
                    one(wrong, format.name, **options)
    with pytest.raises(RecipeError, match="did you mean 'sharegpt'"):
        next(read("x.jsonl", "shareGPT"))


def test_text_that_is_no_list_of_turns_says_nothing_about_the_next_row() -> None:
    turns = '[{"role": "user", "content": "q"}]'
    for column in ("messages", "conversations", "conversation"):
        assert recognise({column: "no list", "id": 1}) is None
        assert recognise({column: turns, "id": 1}) is not None


def test_patterns_fill_columns() -> None:
    columns = {"system": "{style}", "user": "{title}[[ ({year})]] {{x}}", "assistant": "{summary}"}
    row = {"title": "T", "year": 1999, "summary": "S", "style": "", "id": 3}
    conversation = one(row, columns=columns)
    assert conversation.messages == (U("T (1999) {x}"), A("S"))
    assert conversation.extra == {"id": 3}
    assert one({**row, "year": None}, columns=columns).messages[0] == U("T {x}")
    assert one({"title": "T", "summary": "S", "style": "brief"}, columns=columns).messages == (
        S("brief"),
        U("T {x}"),
        A("S"),
    )
    with pytest.raises(DataError, match=r"no column 'title' .*did you mean 'titel'"):
        one({"titel": "T", "summary": "S", "style": ""}, columns=columns)
    for bad in ({"user": "{a}"}, {"assistant": "[[{a}"}, {"assistant": "{}"}, {"asistant": "{a}"}):
        with pytest.raises(RecipeError, match="columns"):
            one(row, columns=bad)


def test_prompt_and_completion_can_be_plain() -> None:
    row = {"prompt": "p", "completion": "c"}
    assert one(row, prompt_completion="plain").plain
    written = next(each for each in FORMATS if each.name == "prompt_completion").write(
        one(row, prompt_completion="plain")
    )
    assert one(written).plain


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


@pytest.mark.parametrize("format", [each.name for each in FORMATS if each.name != "pattern"])
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


@pytest.mark.parametrize(("format", "row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    format: str, row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    conversation = one(row)
    try:
        write([conversation], tmp_path / "there.json", format=through)
    except FormatError:
        assert conversation.plain
        assert through == "sharegpt"
        return
    back = list(read(tmp_path / "there.json"))
    assert [replace(each, place=None) for each in back] == [replace(conversation, place=None)]
    write(back, tmp_path / "back.jsonl", format=format)
    assert replace(next(read(tmp_path / "back.jsonl")), place=None) == replace(conversation, place=None)


def test_alpaca_finds_instruction_and_input_again(tmp_path: Path) -> None:
    row = {"instruction": "i", "input": "n", "output": "o"}
    write([one(row)], tmp_path / "a.jsonl", format="sharegpt")
    write(read(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", format="alpaca")
    assert json.loads((tmp_path / "b.jsonl").read_text()) == row


@pytest.mark.parametrize("label", [False, "False"])
@pytest.mark.parametrize("prompt", ["p", [{"role": "user", "content": "p"}]])
def test_an_answer_judged_bad_is_no_answer_to_learn(label: Any, prompt: Any) -> None:
    completion = "c" if prompt == "p" else [{"role": "assistant", "content": "c"}]
    with pytest.raises(DataError, match=f"{PLACE}: has label false.*Expected label true.*Remove the row"):
        one({"prompt": prompt, "completion": completion, "label": label})
    assert one({"prompt": prompt, "completion": completion, "label": True}).messages == (U("p"), A("c"))


def test_a_column_that_would_make_an_answer_bad_is_not_written(tmp_path: Path) -> None:
    conversation = one({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": False})  # fmt: skip
    with pytest.raises(FormatError, match="label"):
        write([conversation], tmp_path / "a.jsonl", format="prompt_completion")


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
    with pytest.raises(FormatError, match="pattern can only be read"):
        write(bad, path, format="pattern")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_detection_says_what_it_saw_and_why(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 9 + [{"messages": [{"role": "user", "content": "q"}]}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    seen = detect(path)[0]
    assert str(seen) == f"{path}: question_answer (columns question, answer in 9 of 11 rows; 1 messages; 1 broken)"
    assert seen.formats == {"question_answer": 9, "messages": 1, "broken": 1}
    assert len(list(read(path, on_bad_row="skip"))) == 10
    with pytest.raises(DataError, match=r"a\.jsonl:11: not valid JSON"):
        list(read(path))


def test_detection_names_the_columns_that_nothing_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "context": "c", "answer": "a", "id": 1}\n{"question": "q", "answer": "a"}\n')
    assert str(detect(path)[0]) == (
        f"{path}: question_answer (columns question, answer in 2 of 2 rows; columns that nothing reads: context, id)"
    )
    path.write_text(
        '{"instruction": "i", "input": "n", "output": "o"}\n{"chosen": "c", "rejected": "r", "prompt": "p"}\n'
    )
    assert "nothing reads" not in str(detect(path)[0])


def test_public_names() -> None:
    assert instil.read is read
    assert instil.write is write


REFUSED = ("bfcl_", "mt_bench_", "oasst_", "tau_bench_", "toolalpaca_", "toolbench_", "xtuner_qwen35_")


@needs_corpus(36)
def test_every_corpus_file_is_read_or_refused_by_name() -> None:
    corpus = corpus_path()
    assert corpus is not None
    files = [path for path in sorted((corpus / "datasets").iterdir()) if path.name != "index.json"]
    for path in files:
        count = _count(lambda path=path: read(path))
        if path.name.startswith(REFUSED):
            assert isinstance(count, str), path.name
            assert count.startswith(f"{path}:"), path.name
        else:
            assert isinstance(count, int), (path.name, count)
            assert count >= detect(path)[0].formats[detect(path)[0].format], path.name
    assert len(files) == 36


def _count(make: Callable[[], Any]) -> int | str:
    try:
        return sum(1 for _ in make())
    except DataError as error:
        return str(error)
