"""The translations: no page may lose what it has, and nothing fuzzy counts."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, name_of

polib = pytest.importorskip("polib")
pytest.importorskip("sphinx")
from docs_site.languages import is_fully_translated  # noqa: E402

# Per cent of the messages that are translated, by language and part of the site. A figure may only rise; 100 is the aim.
PARTS = ("docs/index", "docs/start", "docs/how-to", "docs/how-it-works/scaling", "course", "title and summary")
FLOOR = {language: dict.fromkeys(PARTS, 100) for language in ("zh_CN", "vi")}


def catalogue(language: str, page: str) -> Path:
    """Return the file of a page's translation."""
    path = ROOT / "docs" / "locale" / language / "LC_MESSAGES" / f"{page}.po"
    assert path.exists(), f"{page} has no catalogue: run: make docs-translations"
    return path


def part_of(page: str) -> str:
    """Return the part of the site whose floor holds for a page."""
    if not is_fully_translated(page):
        return "title and summary"
    return next(part for part in FLOOR["vi"] if page.startswith(part))


@pytest.mark.parametrize("language", FLOOR)
def test_every_part_keeps_its_translations(language):
    translated: dict[str, int] = defaultdict(int)
    messages: dict[str, int] = defaultdict(int)
    for page in map(name_of, PAGES):
        for entry in polib.pofile(str(catalogue(language, page))):
            if not entry.obsolete:
                messages[part_of(page)] += 1
                translated[part_of(page)] += entry.translated()
    assert sum(messages.values()) > 100
    shares = {part: 100 * translated[part] // count for part, count in messages.items()}
    below = {part: share for part, share in shares.items() if share < FLOOR[language][part]}
    assert below == {}, "translate what is empty or fuzzy in docs/locale/"


@pytest.mark.parametrize("language", FLOOR)
def test_no_translation_begins_as_a_list(language):
    r"""Sphinx shows the English of such a message: `2. Data` is a list, `2\. Data` is not."""
    begins = re.compile(r"(\d+[.)]|[-+*]|#+) ")
    entries = [entry for page in map(name_of, PAGES) for entry in polib.pofile(str(catalogue(language, page)))]
    assert sum(entry.translated() for entry in entries) > 100
    assert [entry.msgstr for entry in entries if not entry.obsolete and begins.match(entry.msgstr)] == []


@pytest.mark.parametrize("language", FLOOR)
def test_the_words_of_the_frame_are_translated(language):
    entries = polib.pofile(str(catalogue(language, "sphinx")))
    assert len(entries) > 10
    assert [entry.msgid for entry in entries if not entry.translated()] == []


def test_both_languages_have_the_same_messages():
    num_compared = 0
    for page in map(name_of, PAGES):
        messages = [
            [entry.msgid for entry in polib.pofile(str(catalogue(language, page))) if not entry.obsolete]
            for language in FLOOR
        ]
        num_compared += len(messages[0])
        assert sorted(messages[0]) == sorted(messages[1]), f"{page}: run: make docs-translations"
    assert num_compared > 100
