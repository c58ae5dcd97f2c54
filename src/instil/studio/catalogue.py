"""The studio's words in each language: a folder a language, a file a page, so that pages do not share a file."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Literal

Language = Literal["en", "zh", "vi"]
LANGUAGES: dict[Language, str] = {"en": "English", "zh": "中文", "vi": "Tiếng Việt"}
"""Each language under its own name."""
HTML_LANG: dict[Language, str] = {"en": "en", "zh": "zh-Hans", "vi": "vi"}


@cache
def catalogue(language: Language) -> dict[str, str]:
    """Return all words of a language: ``home.title`` is ``title`` in the file ``home.json``.

    Example:
        >>> catalogue("vi").keys() == catalogue("en").keys()
        True
    """
    words: dict[str, str] = {}
    for file in resources.files(__package__).joinpath("words", language).iterdir():
        page = file.name.removesuffix(".json")
        words |= {f"{page}.{key}": text for key, text in json.loads(file.read_text(encoding="utf-8")).items()}
    return words


def worded(language: Language, key: str, **values: object) -> str:
    """Return a text with its values.

    Raises:
        KeyError: If there is no such text, or a value of it is missing.

    Example:
        >>> worded("en", "frame.skip")
        'Skip to the content'
    """
    text = catalogue(language)[key]
    return text.format(**values) if values else text


def chosen_language(cookie: str | None, accepted: str) -> Language:
    """Return the language of a page: the one chosen on it, else the first that the browser prefers, else English.

    Args:
        cookie: The chosen language, or None.
        accepted: The Accept-Language header.

    Example:
        >>> chosen_language(None, "fr, zh-CN;q=0.8, en;q=0.5"), chosen_language("vi", "en"), chosen_language("xx", "")
        ('zh', 'vi', 'en')
    """
    for known in LANGUAGES:
        if cookie == known:
            return known
    preferred: list[tuple[float, int, Language]] = []
    for number, part in enumerate(accepted.split(",")):
        name, _, quality = part.strip().partition(";q=")
        for known in LANGUAGES:
            if name.lower().partition("-")[0] == known:
                preferred.append((-_number(quality), number, known))
    return min(preferred)[2] if preferred else "en"


def _number(quality: str) -> float:
    try:
        return float(quality or 1)
    except ValueError:
        return 0.0
