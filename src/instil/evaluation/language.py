"""A guess of a text's language from its script and its commonest words: enough to slice by, and to check "answer in French".

Questionable on purpose: no model and no package; texts too short to tell are ``unknown``, which is an honest slice too.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_WORDS: dict[str, str] = {
    "en": "the of and to in is are was that for with on this it you be have not from what which how",
    "de": "der die das und ist nicht ein eine mit den von zu auf für ich sie wie was wird auch im dem",
    "fr": "le la les des est et un une dans pour que qui pas sur avec ce il elle vous quelle du au sont",
    "es": "el la los las es y un una en para que por con no se su como qué del más son está lo",
    "it": "il la che di è e un una per non con sono del della dei come si più gli nel lo qual",
    "pt": "o a os as que de e um uma para não com do da em por é são mais como se no na dos",
    "nl": "de het een en van is dat in op niet met voor zijn te die wat hoe er aan ook wordt",
    "sv": "och att det är en som på för med av inte den till har vad ett om var jag",
    "pl": "i w na nie się że jest do to z o jak co po dla przez są od który",
    "tr": "ve bir bu için ile de da ne mi olarak daha çok en gibi olan nedir",
}
_SCRIPTS: tuple[tuple[str, str], ...] = (
    ("HIRAGANA", "ja"),
    ("KATAKANA", "ja"),
    ("HANGUL", "ko"),
    ("CJK", "zh"),
    ("CYRILLIC", "ru"),
    ("ARABIC", "ar"),
    ("HEBREW", "he"),
    ("GREEK", "el"),
    ("DEVANAGARI", "hi"),
    ("THAI", "th"),
)
_SETS = {name: frozenset(words.split()) for name, words in _WORDS.items()}


def language_of(text: str) -> str:
    """Give a two-letter code, or ``unknown``.

    Example:
        >>> language_of("What is the capital of Peru?"), language_of("Wie ist das Wetter in der Stadt?"), language_of("42")
        ('en', 'de', 'unknown')
        >>> language_of("東京は日本の首都です")
        'ja'
    """
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return "unknown"
    scripts = Counter(unicodedata.name(char, "?").split()[0] for char in letters[:2_000])
    for script, code in _SCRIPTS:
        share = scripts[script] / len(letters[:2_000])
        if share > (0.1 if code == "ja" else 0.4):
            return code
    words = re.findall(r"[^\W\d_]+", text.casefold())
    found = {name: sum(word in known for word in words) for name, known in _SETS.items()}
    best = max(found, key=lambda name: found[name])
    second = max(count for name, count in found.items() if name != best)
    return best if found[best] >= 2 and found[best] > second else "unknown"
