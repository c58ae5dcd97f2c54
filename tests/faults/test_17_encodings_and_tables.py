"""Tables and text files as programs of many countries write them: read with what was seen said, or refused honestly."""

from __future__ import annotations

import json
import sys
import unicodedata
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code

from instil.data import detect, read
from instil.data.sources.encodings import encoding_of, possible_readings
from instil.errors import DataError, MissingPackageError

SENTENCES = {
    "cp1252": (
        "Où est la forêt la plus âgée de la région ?",
        "À côté de l'église, près du château.",
        "¿Mañana será otro día?",
    ),
    "cp1258": ("Hôm nay thời tiết ở Đà Nẵng thế nào?", "Trời nắng và rất nóng.", "Bạn tên là gì?"),
    "gb18030": ("请告诉我今天上海的天气。", "今天是晴天。", "你叫什么名字？"),
    "big5": ("請告訴我今天臺北的天氣。", "今天是晴天。", "你叫什麼名字？"),
    "shift_jis": ("今日の大阪の天気を教えてください。", "晴れです。", "お名前は何ですか？"),
    "euc_kr": ("오늘 부산의 날씨를 알려 주세요.", "맑습니다.", "이름이 무엇입니까?"),
    "euc_jp": ("今日の大阪の天気を教えてください。", "晴れです。", "お名前は何ですか？"),
    "cp1251": ("Какая сегодня погода в Казани?", "Солнечно и тепло.", "Как вас зовут?"),
    "cp1250": ("Jaka jest dziś pogoda w Łodzi?", "Słonecznie, ale wietrznie.", "Gdzie leży Gdańsk?"),
    "mac_roman": ("Où est la forêt la plus âgée ?", "À côté de l'église, près du château.", "Wie heißt die Brücke?"),
    "utf-16": ("今日は？ 오늘은?", "晴れ, 맑음", "ok"),
    "utf-16-be": ("Wie groß?", "Sehr groß.", "ok"),
    "utf-8-sig": ("Wie groß?", "Sehr groß.", "ok"),
}


def encoded(text: str, encoding: str) -> bytes:
    """Encode a text; Windows-1258 writes most accents behind their letters."""
    if encoding != "cp1258":
        return text.encode(encoding)
    pieces = b""
    for letter in text:
        base, tone = letter, ""
        for mark in "\u0300\u0301\u0303\u0309\u0323":
            plain = unicodedata.normalize("NFC", unicodedata.normalize("NFD", letter).replace(mark, ""))
            if plain != letter:
                base, tone = plain, mark
        pieces += (base + tone).encode("cp1258")
    return pieces


def pairs(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(message.content for message in row.messages) for row in read(path, **options)]


@pytest.mark.parametrize("encoding", SENTENCES)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
def test_a_file_is_read_in_its_encoding_and_the_format_line_names_it(
    suffix: str, encoding: str, tmp_path: Path
) -> None:
    question, answer, other = SENTENCES[encoding]
    rows = [{"question": question, "answer": answer}, {"question": other, "answer": "ok"}]
    text = {
        ".csv": f'question;answer\r\n"{question}";"{answer}"\r\n"{other}";ok\r\n',
        ".jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        ".json": json.dumps(rows, ensure_ascii=False, indent=1),
        ".txt": f"{question}\n{answer}\n{other}\n",
    }[suffix]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(encoded(text, encoding))
    if suffix == ".txt":
        assert pairs(path) == [(text,)]
    else:
        assert pairs(path) == [(question, answer), (other, "ok")]
    (line,) = map(str, detect(path))
    assert "encoding " in line, line
    assert ("delimiter semicolon, by its header" in line) == (suffix == ".csv"), line


def test_an_uncertain_encoding_is_refused_with_what_each_candidate_gives(tmp_path: Path) -> None:
    """``你好`` alone is as good in Korean. Advice to convert from Windows-1252 would train mojibake."""
    path = tmp_path / "rows.csv"
    path.write_bytes("question,answer\n一,丁\n".encode("gb18030"))
    with pytest.raises(DataError, match=r"its encoding is not certain\. As .* Set data\.encoding") as caught:
        pairs(path)
    assert "一" in str(caught.value)
    assert "iconv" not in str(caught.value)
    assert pairs(path, encoding="gb18030") == [("一", "丁")]


def test_utf8_with_broken_bytes_stays_utf8(tmp_path: Path) -> None:
    """A few damaged rows are reported with their places. They do not make the file Latin."""
    rows = [json.dumps({"text": f"größer als {n} Äpfel, schöne Grüße"}, ensure_ascii=False).encode() for n in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*rows, b'{"text": "sch\xf6n und gr\xf6\xdfer"}', b""]))
    with pytest.raises(DataError, match=r":10: byte 0xf6 .* is not UTF-8\. As Windows-1252 it reads") as caught:
        pairs(path)
    assert "schön" in str(caught.value)
    assert len(pairs(path, on_bad_row="skip")) == 9


@pytest.mark.slow
def test_a_later_part_of_a_large_file_decides_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    last = json.dumps({"question": "где?", "answer": "здесь, в Казани"}, ensure_ascii=False).encode("cp1251")
    path.write_bytes(b'{"question": "1+1?", "answer": "2"}\n' * 60_000 + last)
    *_, (question, answer) = pairs(path)
    assert (question, answer) == ("где?", "здесь, в Казани")


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ("sep=;\nquestion;answer\na, b;c\n", "delimiter semicolon, by its sep= line"),
        ('"sep=,"\nquestion,answer\n"a, b",c\n', "delimiter comma, by its sep= line"),
        ("question\tanswer\na, b\tc\n", "delimiter tab, by its header"),
        ("question|answer\na, b|c\n", "delimiter vertical bar, by its header"),
        ('question;answer;;\n"a, b";c;;\n;;;\n;;;\n', "delimiter semicolon, by its header"),
        ('question,answer,,\n"a, b",c\n,,,\n', ""),
        ('\n,,\nquestion,answer,\n"a, b",c,\n', ""),
    ],
)
def test_tables_of_spreadsheets(data: str, seen: str, tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        path = tmp_path / f"rows-{encoding}.csv"
        path.write_text(data, encoding=encoding, newline="")
        assert pairs(path) == [("a, b", "c")], path
        assert seen in str(detect(path)[0])


def test_text_outside_the_named_columns_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer,\na,b,\nc,d,a remark\n")
    with pytest.raises(DataError, match=r":3: has text in column 3, which has no name"):
        pairs(path)


@pytest.mark.slow
def test_settings_decide_and_make_another_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("question|answer\nwie groß?|für alle größer\n".encode("cp1252") * 1)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data:\n  sources: [{path}]\n  store: {tmp_path / 'store'}\n  heldout_max: 0\n")
    stores = set()
    for words in ([], ["--data.encoding", "cp1252"], ["--data.encoding", "latin-1", "--data.delimiter", "|"]):
        assert exit_code("prepare", str(recipe), "--json", *words) == 0
        report = json.loads(capsys.readouterr().out)
        stores.add(report["folder"])
        assert "encoding " in json.dumps(report), report
    assert len(stores) == 3
    out = tmp_path / "out.jsonl"
    assert exit_code("convert", str(path), str(out), "--encoding", "cp1252", "--delimiter", "|") == 0
    assert "größer" in out.read_text()
    for words, error in (
        (["--data.encoding", "klingon"], "data.encoding: found 'klingon'"),
        (["--data.delimiter", "::"], "data.delimiter: found '::'"),
    ):
        assert exit_code("prepare", str(recipe), *words) == 2
        assert error in capsys.readouterr().err
    assert exit_code("convert", str(path), str(out), "--encoding", "hex") == 2
    with pytest.raises(DataError, match="encoding: found 'nope'"):
        pairs(path, encoding="nope")


def workbook(path: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fragen"
    for row in (["question", "answer", None], ["Wann?", date(2024, 5, 1), None], ["Wie viele?", 3.0, None], [None] * 3):
        sheet.append(row)
    sheet.append(["Was?", "eins"])
    sheet.append([None, "zwei"])
    sheet.merge_cells("A5:A6")
    other = book.create_sheet("Mehr")
    for row in (["question", "answer"], ["a", "#REF!"], ["b", "=1+1"], ["quer", None], ["gut", "ja"]):
        other.append(row)
    other["B2"].data_type = "e"
    other.merge_cells("A4:B4")
    book.save(path)
    return path


@pytest.mark.slow
def test_a_workbook_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workbook(tmp_path / "book.xlsx")
    assert pairs(path) == [("Wann?", "2024-05-01"), ("Wie viele?", "3"), ("Was?", "eins"), ("Was?", "zwei")]
    assert "sheet 'Fragen'" in str(detect(path)[0])
    errors: list[DataError] = []
    assert pairs(path, sheet="Mehr", on_bad_row="skip", on_error=errors.append) == [("gut", "ja")]
    words = " ".join(map(str, errors))
    for part in (
        "book.xlsx:Mehr:2: cell B2 holds the error #REF!",
        ":3: cell B3 is a formula",
        ":4: cells A4:B4 are merged",
    ):
        assert part in words
    with pytest.raises(DataError, match=r"no sheet 'Fargen' \(did you mean 'Fragen'\?\).*Set data.sheet"):
        pairs(path, sheet="Fargen")
    assert exit_code("inspect", str(path), "--template", "chatml", "--data.sheet", "Fragen", "--row", "5") == 0
    assert "eins" in capsys.readouterr().out
    assert exit_code("convert", str(path), str(tmp_path / "out.jsonl"), "--sheet", "Fragen") == 0


def test_a_workbook_whose_first_sheet_has_no_row_names_the_others(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    for cells in ([], [["question", "answer"]]):
        book = openpyxl.Workbook()
        book.active.title = "Deckblatt"
        for row in cells:
            book.active.append(row)
        alone = tmp_path / "alone.xlsx"
        book.save(alone)
        with pytest.raises(DataError, match=r"alone.xlsx:Deckblatt: the sheet holds no row. .* Check it."):
            pairs(alone)
        for title in ("Daten", "Mehr"):
            sheet = book.create_sheet(title)
            for row in (["question", "answer"], ["q", "a"]):
                sheet.append(row)
        book.save(tmp_path / "book.xlsx")
        with pytest.raises(DataError, match=r"book.xlsx:Deckblatt: .*Other sheets: Daten, Mehr. Set data.sheet"):
            pairs(tmp_path / "book.xlsx")
        assert pairs(tmp_path / "book.xlsx", sheet="Daten") == [("q", "a")]


def test_a_workbook_without_openpyxl_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "book.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingPackageError, match=r"instil\[excel\]"):
        pairs(path)


def test_prompts_of_a_text_file_are_decoded_too(tmp_path: Path) -> None:
    from instil.generation.prompts import read_prompts

    path = tmp_path / "prompts.txt"
    path.write_bytes("Wie groß ist das?\nUnd für wen?\n".encode("cp1252"))
    assert [prompt.conversation.messages[-1].content for prompt in read_prompts(str(path), turns="last")] == [
        "Wie groß ist das?",
        "Und für wen?",
    ]


def test_valid_utf8_is_never_guessed() -> None:
    for text in ("Grüße", "翻译", "안녕", "مرحبا", "emoji 😀", "plain"):
        assert encoding_of([text.encode()], "a").is_plain
    assert possible_readings("翻译你好再见".encode("gb18030"))[0].name == "GB18030"


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": "größer?", "answer": "ja; nein"}])
    assert exit_code("convert", str(rows), str(tmp_path / "o.csv"), "--to", "question_answer") == 0
    assert pairs(tmp_path / "o.csv") == [("größer?", "ja; nein")]
