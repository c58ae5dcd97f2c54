"""Every page of the site stands on one shelf, begins with a title and a summary, and reads well."""

from __future__ import annotations

import posixpath
import re
from collections import Counter

import pytest
from docs_site import shelves
from tests.docs.pages import PAGES, ROOT, name_of
from tools.prose import page_paragraphs, percentile, sentence_lengths

SHELVES = {"Start": "docs/start", "How to": "docs/how-to", "When something is wrong": "docs/troubleshooting",
           "Reference": "docs/reference", "How it works": "docs/how-it-works", "Course": "course"}  # fmt: skip
"""Heading of docs/index.md → folder of its pages."""
ELSEWHERE = {"ARCHITECTURE", "benchmarks/RESULTS"}
"""Pages that lie in no shelf's folder."""


def on_shelves(contents: str) -> list[tuple[str, str]]:
    """Return the heading and the page of each entry of a page of contents."""
    text = (ROOT / f"{contents}.md").read_text(encoding="utf-8")
    folder = posixpath.dirname(contents)
    return [
        (heading, posixpath.normpath(posixpath.join(folder, entry)))
        for heading, entries in shelves.shelves_of(text).items()
        for entry in entries
    ]


def test_each_page_stands_on_one_shelf():
    entries = [entry for contents in shelves.CONTENTS for entry in on_shelves(contents)]
    times = Counter(page for _, page in entries)
    assert {page: count for page, count in times.items() if count > 1} == {}
    pages = {name_of(page) for page in PAGES} - {"docs/index"}
    assert len(pages) > 25
    assert pages | ELSEWHERE == set(times), "each page needs one line in docs/index.md"


def test_a_page_lies_in_the_folder_of_its_shelf():
    for heading, page in on_shelves("docs/index"):
        assert heading in SHELVES
        assert page in ELSEWHERE or page.startswith(SHELVES[heading] + "/"), f"{page} stands under {heading}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_begins_with_a_title_and_a_summary(page):
    text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).lstrip()
    title, summary = text.split("\n\n")[:2]
    assert re.fullmatch(r"# .+", title)
    assert re.match(r"[^#`\-|>!\n]", summary), f"the first paragraph says what the page is for, not {summary!r}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nine_of_ten_sentences_have_at_most_35_words(page):
    paragraphs = page_paragraphs(page.read_text(encoding="utf-8"))
    words = [count for paragraph in paragraphs for count in sentence_lengths(paragraph)]
    assert percentile(words, 0.9) <= 35
