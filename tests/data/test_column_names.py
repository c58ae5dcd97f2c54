from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, S, U, one

import instil
from instil.data.column_names import STANDARD_NAMES, naming_of, standard_name
from instil.data.formats import ReadOptions, read_row
from instil.data.messages import as_conversation
from instil.data.reading import detect
from instil.errors import DataError, FormatError
from instil.generation.prompts import read_prompts
from instil.inspection.inspection import Inspection
from instil.preparation.ledger import Ledger
from instil.recipe import Recipe

PAIRS = (
    ("QUESTION", "Answer"),
    (" Question ", "ANSWER"),
    ("问题", "回答"),
    ("问", "答"),
    ("提问", "答案"),
    ("問題", "答案"),
    ("用户", "助手"),
    ("输入", "输出"),
    ("Câu hỏi", "Trả lời"),
    ("CÂU HỎI", "CÂU TRẢ LỜI"),
    ("Hỏi", "Đáp"),
    ("cau hoi", "tra loi"),
    ("Cau_hoi", "Tra_loi"),
    (unicodedata.normalize("NFD", "Câu hỏi"), unicodedata.normalize("NFD", "Đáp án")),
    ("Người dùng", "Trợ lý"),
    ("Prompt", "Completion"),
    ("提示", "回复"),
    ("Lời nhắc", "Phản hồi"),
)
TRIPLES = (
    ("Instruction", "Input", "OUTPUT"),
    ("指令", "输入", "输出"),
    ("指令", "輸入", "輸出"),
    ("Hướng dẫn", "Đầu vào", "Đầu ra"),
    ("huong dan", "dau vao", "dau ra"),
    (unicodedata.normalize("NFD", "Hướng dẫn"), "Đầu vào", unicodedata.normalize("NFD", "Đầu ra")),
)


def written(row: Mapping[str, str], folder: Path) -> list[Path]:
    """Write a row into a file of every kind that has columns."""
    openpyxl = pytest.importorskip("openpyxl")
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    (folder / "a.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    (folder / "b.json").write_text(json.dumps([row], indent=1), "utf-8")
    for name, mark in (("c.csv", ","), ("d.tsv", "\t"), ("e.csv", ";")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=mark).writerows([row.keys(), row.values()])
    book = openpyxl.Workbook()
    for cells in (row.keys(), row.values()):
        book.active.append(list(cells))
    book.save(folder / "f.xlsx")
    pq.write_table(pa.table({name: [text] for name, text in row.items()}), folder / "g.parquet")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("question", "answer"), PAIRS)
def test_a_question_and_its_answer_are_read_under_every_listed_name(question: str, answer: str, tmp_path: Path) -> None:
    files = written({question: "q", answer: "a"}, tmp_path)
    assert len(files) == 7
    for file in files:
        (conversation,) = instil.read(file)
        assert conversation.messages == (U("q"), A("a")), file
    (conversation,) = instil.read([{question: "q", answer: "a"}])
    assert conversation.messages == (U("q"), A("a"))
    assert not conversation.extra


@pytest.mark.parametrize("names", TRIPLES)
def test_instruction_input_and_output_are_read_under_every_listed_name(names: tuple[str, str, str]) -> None:
    row = dict(zip(names, ("i", "in", "o"), strict=True))
    assert one(row).messages == (U("i\nin"), A("o"))
    assert one({**row, names[1]: ""}, "alpaca").messages == (U("i"), A("o"))


def test_the_page_lists_every_name() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/data.md").read_text("utf-8")
    section = page.partition("### Other names of columns")[2].partition("###")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in section.splitlines() if line.startswith("| `")]
    listed = {name: standard for standard, *names in rows for name in names}
    assert all(standard_name(name) == standard for name, standard in listed.items())
    assert {name for name in STANDARD_NAMES if not name.isascii() and "_" not in name} <= {*listed}


def test_no_name_is_listed_for_two_meanings() -> None:
    assert all(standard_name(name) == standard for name, standard in STANDARD_NAMES.items())
    assert all(standard_name(name.upper()) == standard for name, standard in STANDARD_NAMES.items())
    assert {standard_name(standard) == standard for standard in STANDARD_NAMES.values()} == {True}


@pytest.mark.parametrize("name", ["Questions", "问题列表", "câu  hỏi", "cauhoi", "my question", "q", 5, None])
def test_a_name_that_is_not_listed_is_not_guessed(name: object) -> None:
    assert standard_name(name) is None
    with pytest.raises(FormatError):
        one({name: "q", "回答": "a"})


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"question": "q", "Question": "r", "answer": "a"}, "'question' and 'Question' both mean question"),
        ({"问题": "q", "回答": "a", "答案": "b"}, "'回答' and '答案' both mean answer"),
        ({"question": "q", "answer": "a", "问题": "r"}, "'question' and '问题' both mean question"),
        ({"Câu hỏi": "q", unicodedata.normalize("NFD", "Câu hỏi"): "r", "Đáp": "a"}, "both mean question"),
    ],
)
def test_two_columns_of_one_meaning_are_refused(row: dict[str, str], names: str) -> None:
    for format in ("auto", "question_answer"):
        with pytest.raises(FormatError, match=names) as error:
            one(row, format)
        assert "data.columns" in str(error.value)
    columns = {"user": "{" + next(iter(row)) + "}", "assistant": "{" + list(row)[-1] + "}"}
    assert one(row, columns=columns).messages[0] == U("q")


def test_an_empty_column_of_the_same_meaning_gives_way() -> None:
    assert one({"question": "", "问题": "q", "answer": None, "回答": "a"}).messages == (U("q"), A("a"))
    assert naming_of({"question": "q", "问题": ""}).own_names == {}


def test_other_columns_keep_their_names_and_a_known_format_its_columns() -> None:
    assert dict(one({"Question": "q", "Answer": "a", "Input": "x", "Nguồn": "y"}).extra) == {"Input": "x", "Nguồn": "y"}
    kept = one({"question": "q", "answer": "a", "Prompt": "p", "Instruction": "i", "Output": "o"})
    assert kept.messages == (U("q"), A("a"))
    messages = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "Answer": "b"}
    assert dict(one(messages).extra) == {"Answer": "b"}


def test_a_table_of_text_with_a_question_and_an_answer_is_no_plain_text() -> None:
    assert one({"text": "t", "Question": "q", "Answer": "a"}).messages == (U("q"), A("a"))


def test_an_input_in_capitals_is_not_lost() -> None:
    assert one({"instruction": "i", "Input": "in", "output": "o"}).messages == (U("i\nin"), A("o"))


def test_a_prompt_in_capitals_beside_a_completion_of_messages_is_not_lost() -> None:
    row = {"Prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
    assert one(row).messages == (U("q"), A("a"))


def test_system_texts_and_labels_have_other_names_too() -> None:
    assert one({"系统": "s", "问": "q", "答": "a"}).messages == (S("s"), U("q"), A("a"))
    assert one({"System Prompt": "s", "Question": "q", "Answer": "a"}).messages[0] == S("s")
    with pytest.raises(DataError, match="judged bad"):
        one({"Prompt": "q", "Completion": "a", "Label": "FALSE"})


def test_errors_name_the_column_of_the_file() -> None:
    with pytest.raises(DataError, match=r"column 'answer' holds null.*'回答' read as answer"):
        one({"问题": "q", "回答": None})


def test_format_line_and_ledger_say_which_column_was_read_as_what(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("问题,回答,来源\n2+2?,4,x\n", "utf-8")
    (found,) = detect(path)
    assert (found.format, found.evidence) == (
        "question_answer",
        "columns question, answer: '问题' read as question, '回答' read as answer in 1 of 1 rows; "
        "columns that nothing reads: 来源",
    )
    for settings in ({}, {"format": "question_answer"}):
        data = {"sources": [{"path": str(path), **settings}], "store": str(tmp_path / "store")}
        recipe = Recipe.from_mapping({"data": data}, source="test")
        made = Inspection.of(str(path), recipe).survey()
        assert "'问题' read as question, '回答' read as answer" in "\n".join(made.ledger.evidence)
        assert made.findings.counts == {}
        assert Ledger.from_json(made.ledger.to_json()).evidence == made.ledger.evidence


def test_prompts_without_an_answer_are_found_by_the_same_names(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("Câu hỏi,id\nThủ đô của Pháp?,1\n", "utf-8")
    (prompt,) = read_prompts(str(path), turns="last")
    assert prompt.conversation.messages == (U("Thủ đô của Pháp?"),)


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"Prompt": "q", "Chosen": "a", "Rejected": "b"}, "preference"),
        ({"问题": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"Hướng dẫn": "i", "Đầu vào": "in", "chosen": "a", "rejected": "b"}, "preference"),
        ({"提示": "q", "responses": ["a", "b"], "scores": [1, 0]}, "scored"),
    ],
)
def test_pairs_are_found_by_the_same_names(row: dict[str, Any], format: str) -> None:
    name, sides = read_row(row, PLACE, format_name="auto", options=ReadOptions(reading="pairs"))
    assert name == format
    question = "i\nin" if "Đầu vào" in row else "q"
    assert [[message.content for message in side.messages] for side in sides] == [[question, "a"], [question, "b"]]


def test_judged_answers_are_found_by_the_same_names() -> None:
    for label, side in (("TRUE", "chosen"), ("FALSE", "rejected")):
        row = {"Prompt": "q", "Completion": "a", "Label": label}
        name, (answer,) = read_row(row, PLACE, format_name="auto", options=ReadOptions(reading="judged"))
        assert (name, answer.side) == ("kto", side)


ROLES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
SYSTEM_NAMES = ["System", "SYSTEM", "系统", "系統提示詞", "Hệ thống", "he_thong", "System Prompt", "System_Message"]


@pytest.mark.parametrize(
    "turns", [{"messages": ROLES}, {"conversations": TURNS}, {"conversation": TURNS}, {"Messages": ROLES}]
)
@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_a_system_text_beside_turns_is_read_under_its_other_names(name: str, turns: dict[str, Any]) -> None:
    conversation = one({name: "s", **turns, "id": 7})
    assert conversation.messages == (S("s"), U("q"), A("a"))
    assert dict(conversation.extra) == {"id": 7}


def test_a_system_text_beside_messages_in_python_is_read_alike() -> None:
    assert as_conversation({"System": "s", "messages": ROLES}).messages[0] == S("s")
    with pytest.raises(DataError, match="conversation: columns 'System' and 'system' both mean system"):
        as_conversation({"System": "s", "system": "t", "messages": ROLES})


@pytest.mark.parametrize("turns", [{"messages": ROLES}, {"conversations": TURNS}])
def test_two_system_texts_beside_turns_are_refused_by_name(turns: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="columns 'System' and 'system' both mean system"):
        one({"System": "s", "system": "t", **turns})
    first = {"role": "system", "content": "t"} if "messages" in turns else {"from": "system", "value": "t"}
    row = {"系统": "s", **{key: [first, *value] for key, value in turns.items()}}
    with pytest.raises(DataError, match=r"different system turn.*'系统' read as system"):
        one(row)
    assert one({"System": "s", "system": "", **turns}).messages[0] == S("s")


def test_the_format_line_says_that_a_system_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"系统": "s", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    )
    (found,) = detect(path)
    assert found.evidence == "column messages with role and content: '系统' read as system in 1 of 1 rows"


def test_a_system_column_of_plain_messages_keeps_its_name() -> None:
    conversation = one({"System": "s", "messages": ROLES, "plain": True})
    assert (conversation.messages, dict(conversation.extra)) == ((U("q"), A("a")), {"System": "s"})
