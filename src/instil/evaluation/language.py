"""Guess the language of a text from its script and its most frequent words.

The guess is good enough for slices and for the constraint "answer in French". A text that is too short is ``unknown``.

Why: a language model or a further package would cost more than this guess is worth.
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
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""The scripts that put no space between words, for a character class of `re`."""
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
    ("LAO", "lo"),
    ("KHMER", "km"),
    ("MYANMAR", "my"),
)
_SETS = {name: frozenset(words.split()) for name, words in _WORDS.items()}


def language_of(text: str) -> str:
    """Return the two-letter code of the language, or ``unknown``.

    Example:
        >>> language_of("What is the capital of Peru?"), language_of("Wie ist das Wetter in der Stadt?")
        ('en', 'de')
        >>> language_of("42")
        'unknown'
        >>> language_of("東京は日本の首都です")
        'ja'
    """
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return "unknown"
    # First the script, which settles most languages without Latin letters. The order of _SCRIPTS matters: Japanese
    # also uses Chinese characters, so a tenth of kana is enough for it.
    scripts = Counter(unicodedata.name(char, "?").split()[0] for char in letters[:2_000])
    for script, code in _SCRIPTS:
        share = scripts[script] / len(letters[:2_000])
        if share > (0.1 if code == "ja" else 0.4):
            return code
    words = re.findall(r"[^\W\d_]+", text.casefold())
    # Then frequent words. Related languages share many of them, so a tie is no answer.
    counts = {name: sum(word in known for word in words) for name, known in _SETS.items()}
    best = max(counts, key=lambda name: counts[name])
    second_count = max(count for name, count in counts.items() if name != best)
    return best if counts[best] >= 2 and counts[best] > second_count else "unknown"
