"""The language of a text, by py3langid; a text that shows none is ``unknown``.

The two-letter languages of its model are the choice, without Latin: dialects divide Chinese and English texts among
several names, and code often passes for Latin.
Numbers, code and single words get no language, because the model spreads its confidence there.

*Source*: M. Lui and T. Baldwin, "langid.py: an off-the-shelf language identification tool", ACL 2012.
"""

from __future__ import annotations

from functools import cache
from typing import Any

LEAST_CONFIDENCE = 0.3
"""Below this the language is `unknown`. At 0.3, all of 1,319 GSM8K questions are English and ten snippets of code and
numbers are nothing (docs/how-it-works/dependencies.md)."""
UNKNOWN = "unknown"
_MOST_CHARACTERS = 4_000
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""The scripts that put no space between words, for a character class of `re`."""


def language_of(text: str) -> str:
    """Return the two-letter code of the language, or `UNKNOWN`.

    Example:
        >>> language_of("What is the capital of Peru?"), language_of("Wie ist das Wetter in der Stadt?")
        ('en', 'de')
        >>> language_of("3x^2 + 2 = 14")
        'unknown'
        >>> language_of("東京は日本の首都です")
        'ja'
    """
    if not any(character.isalpha() for character in text):
        return UNKNOWN
    name, confidence = _identifier().classify(text[:_MOST_CHARACTERS])
    return str(name) if confidence >= LEAST_CONFIDENCE else UNKNOWN


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # Why: its model takes half a second to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([name for name in identifier.labels if len(name) == 2 and name != "la"])
    return identifier
