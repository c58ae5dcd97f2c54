"""The READMEs in other languages have what README.md has: its headings, its code, its tables, its links."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT

ENGLISH = "README.md"
TRANSLATIONS = ("README.zh.md", "README.vi.md")
LANGUAGE_LINE = "[English](README.md) · [简体中文](README.zh.md) · [Tiếng Việt](README.vi.md)"
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)]+)\)")


def text_of(name: str) -> str:
    """Return a README's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(text: str) -> list[tuple[str, list[str]]]:
    """Return each block of code with its language; the comments of its lines may be translated."""
    return [
        (language, [re.sub(r"\s+# .*", "", line) for line in code.splitlines()])
        for language, code in CODE_BLOCK.findall(text)
    ]


def outline_of(text: str) -> list[str]:
    """Return what follows what: the levels of headings, pictures, code, and rows of tables with their cells."""
    outline = []
    for line in CODE_BLOCK.sub("CODE", text).splitlines():
        if heading := re.match(r"#+ ", line):
            outline.append(heading[0])
        elif line == "CODE" or line.startswith("!["):
            outline.append(line[:2])
        elif line.startswith("|"):
            outline.append(f"row of {line.count('|') - 1} cells")
    return outline


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_translated_readme_has_what_the_english_one_has(name):
    english, translated = text_of(ENGLISH), text_of(name)
    assert len(code_of(english)) >= 4
    assert len(LINK.findall(english)) > 30
    assert outline_of(translated) == outline_of(english)
    assert code_of(translated) == code_of(english)
    # Why sorted: a sentence may name its links in another order.
    assert sorted(LINK.findall(translated)) == sorted(LINK.findall(english))


@pytest.mark.parametrize("name", [ENGLISH, *TRANSLATIONS])
def test_every_readme_leads_to_the_others(name):
    assert text_of(name).splitlines()[2] == LANGUAGE_LINE


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_the_links_of_a_translated_readme_lead_to_files(name):
    targets = [target for _, target in LINK.findall(text_of(name))]
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []
