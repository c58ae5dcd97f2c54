"""Claims about the words: none is missing in a language, none is unused."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Formatter

import pytest

from instil.studio.catalogue import LANGUAGES, catalogue, chosen_language

SOURCE = Path(str(resources.files("instil.studio")))
FILES = [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.jinja")]
KEY = re.compile(r"""["']([a-z_]+\.[a-z_0-9]+)["']""")
PREFIX = re.compile(r"""["']([a-z_]+\.[a-z_0-9]*)["'] ~|f["']([a-z_]+\.[a-z_]*)\{""")


def values_of(text):
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)


def test_every_text_is_there_in_every_language_with_the_same_values():
    english = catalogue("en")
    assert len(english) > 50
    for language in LANGUAGES:
        words = catalogue(language)
        assert words.keys() ^ english.keys() == set(), language
        for key, text in words.items():
            assert text.strip(), (language, key)
            assert values_of(text) == values_of(english[key]), (language, key)


def test_no_language_repeats_english():
    english = catalogue("en")
    for language in ("zh", "vi"):
        same = [key for key, text in catalogue(language).items() if text == english[key] and " " in text]
        assert same == []


def test_every_text_that_is_used_exists_and_none_is_unused():
    known, used = set(catalogue("en")), set()
    pages = {key.partition(".")[0] for key in known}
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        prefixes = {first or second for first, second in PREFIX.findall(source)}
        assert all(any(key.startswith(prefix) for key in known) for prefix in prefixes), path
        used |= {key for key in known if any(key.startswith(prefix) for prefix in prefixes)}
        if path.suffix == ".jinja":
            keys = set(re.findall(r"""\bt\(\s*["']([^"']+)["']\s*[,)]""", source))
            assert keys <= known, path
        used |= {key for key in KEY.findall(source) if key.partition(".")[0] in pages}
    assert known - used == set()


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [(None, "", "en"), (None, "fr", "en"), (None, "vi-VN,vi;q=0.9,en;q=0.8", "vi"), (None, "en;q=0.4,zh;q=0.6", "zh"), ("vi", "zh", "vi"), ("../x", "zh", "zh"), (None, "zh;q=x,vi", "vi")],
)  # fmt: skip
def test_the_language_is_the_chosen_one_else_the_browsers(cookie, accepted, language):
    assert chosen_language(cookie, accepted) == language
