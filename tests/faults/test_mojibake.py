"""Text read in a wrong encoding is found, and undone where the round trip is exact."""

from __future__ import annotations

import json

import pytest
from tests.inspection.small_chat import small_chat

from instil.inspection.inspection import Inspection
from instil.inspection.survey import survey
from instil.inspection.text_checks import without_mojibake
from instil.recipe import Recipe

RIGHT = ["Grüße aus Köln", "Phở là món ăn", "naïve café", "Привет, мир", "天气很好", "“quoted” – it’s", "emoji 🎉"]


def _browser(raw: bytes) -> str:
    """Decode Windows-1252 as browsers do: undefined bytes stand for themselves."""
    return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in raw)


@pytest.mark.parametrize("text", RIGHT)
def test_utf_8_read_as_windows_1252_or_latin_1_is_undone(text):
    assert without_mojibake(_browser(text.encode())) == text
    assert without_mojibake(text.encode().decode("latin-1")) == text


def test_utf_8_read_as_windows_1258_is_undone():
    text = "Grüße aus Köln"
    assert without_mojibake(text.encode().decode("cp1258")) == text


@pytest.mark.parametrize("text", RIGHT)
def test_what_was_read_wrongly_several_times_is_undone_as_often(text):
    for times in (2, 3):
        for decode in (_browser, lambda raw: raw.decode("latin-1")):
            wrong = text
            for _ in range(times):
                wrong = decode(wrong.encode())
            assert without_mojibake(wrong) == text


@pytest.mark.parametrize("text", ["Привет, мир", "it’s", "“Grüße”"])
def test_utf_8_read_as_windows_1251_is_undone(text):
    assert without_mojibake(text.encode().decode("cp1251")) == text


@pytest.mark.parametrize("text", ["Её зовут Гёте.", "Моё, твоё, Ёлка и ещё", "їжа її", "√π ≈ 1,77", "├── src"])
def test_short_words_and_signs_that_happen_to_be_bytes_of_utf_8_stay(text):
    assert without_mojibake(text) == text


def test_chinese_read_as_windows_1252_is_undone():
    assert without_mojibake("今天天气".encode("gb2312").decode("latin-1")) == "今天天气"


@pytest.mark.parametrize("text", [*RIGHT, "Ærø, ÅÄÖ, éàü", "Â and Ã are letters", "10 °C ± 2 µm", "ÉÈÊË"])
def test_correct_text_stays(text):
    assert without_mojibake(text) == text


def test_inspect_finds_it_and_fix_undoes_it(tmp_path):
    rows = [
        {"instruction": "Wo liegt MÃ¼nchen?", "output": "In Bayern, sÃ¼dlich von NÃ¼rnberg."},
        {"instruction": "Wo liegt Münster?", "output": "In Westfalen."},
        {"instruction": "Wo liegt K\ufffdln?", "output": "Am Rhein."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)]}}, source="test")
    findings = survey(recipe, small_chat()).findings
    assert [one.place.row for one in findings.of_kind("mojibake")] == [1, 1]
    assert [one.place.row for one in findings.of_kind("lost_characters")] == [3]
    fixed = tmp_path / "fixed.jsonl"
    list(Inspection.of(str(path), recipe).fix(fixed))
    assert [json.loads(line)["instruction"] for line in fixed.read_text().splitlines()] == [
        "Wo liegt München?",
        "Wo liegt Münster?",
        "Wo liegt K\ufffdln?",
    ]
