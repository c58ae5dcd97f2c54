"""The language of a text, by py3langid; source code is ``code``, and a text that shows no language is ``unknown``.

The two-letter languages of its model are the choice, without Latin: dialects divide Chinese and English texts among
several names, and code often passes for Latin.
Numbers, code and single words get no language, because the model spreads its confidence there.

*Source*: M. Lui and T. Baldwin, "langid.py: an off-the-shelf language identification tool", ACL 2012.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

LEAST_CONFIDENCE = 0.3
"""Below this the language is `unknown`. At 0.3, all of 1,319 GSM8K questions are English and ten snippets of code and
numbers are nothing (docs/how-it-works/dependencies.md)."""
UNKNOWN, CODE = "unknown", "code"
_MOST_CHARACTERS = 4_000
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""The scripts that put no space between words, for a character class of `re`."""
_FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_STATEMENT = re.compile(
    r"""
    [;{}]\s*$ | ^\s*[)\]}]+[;,]?\s*$                                     # ends of statements and blocks
    | ^\s*(\#include|\#!|//|/\*|\*/|<\?php|</?\w+[^>]*>\s*$|>>>\s|@\w+\s*$|\$\s\w)  # comments, markup, prompts
    | ^\s*(async\s+)?(def|class|fn|func|function|public|private|static|void|const|let|var|struct|impl|package)\s.*[({=:;]
    | ^\s*(import|from|using)\s+[\w.*{}, ]+(\s+(import|as)\s+[\w.*, ]+)?;?\s*$
    | ^\s*(if|elif|else|for|while|try|except|with|switch|catch|match|case)\b.*[:{]\s*$
    | ^\s*(return|raise|throw|yield|await|print|assert)\b\s*[\w(\["'{-]*[\w.]*[(\[=.+*/)\]"'}0-9-]
    | ^\s*[\w.\[\]"']+\s*([+\-*/|&]?=|:=)\s*\S | ^\s*[\w.]+\(.*\)\s*$          # assignments and calls
    | ^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|FROM|WHERE|JOIN|GROUP\s+BY|ORDER\s+BY)\s
    """,
    re.VERBOSE,
)
"""A line that looks like a statement of a program rather than a sentence."""


_OPENING = re.compile(r'\s*(#|//|/\*|"""|\'\'\'|--\s|%\s)')
"""A comment or a documentation text, with which source code may begin."""
_LEAST_STATEMENTS = 0.3


def is_code(text: str) -> bool:
    r"""Return whether a text is source code: it begins with code, and of its lines at least 30% look like statements.

    A text that begins with a sentence is a question about code. A single line is a formula as often as a program, so it
    needs an end that only a statement has.

    Example:
        >>> is_code("def add(a, b):\n    return a + b"), is_code("What does this print?\nprint(3)\nx = 4")
        (True, False)
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 and not text.rstrip().endswith((";", "{", "}", ":")):
        return False
    if not (lines and (_STATEMENT.search(lines[0]) or _OPENING.match(lines[0]))):
        return False
    return sum(bool(_STATEMENT.search(line)) for line in lines) >= _LEAST_STATEMENTS * len(lines)


def language_of(text: str) -> str:
    r"""Return the two-letter code of the language, `CODE` or `UNKNOWN`. Code beside other text does not count.

    Example:
        >>> language_of("What is the capital of Peru?"), language_of("Wie ist das Wetter in der Stadt?")
        ('en', 'de')
        >>> language_of("3x^2 + 2 = 14")
        'unknown'
        >>> language_of("for n in range(3):\n    print(n)")
        'code'
        >>> language_of("東京は日本の首都です")
        'ja'
    """
    if not any(character.isalpha() for character in text):
        return UNKNOWN
    prose = _FENCED.sub("", text)
    if not prose.strip() or is_code(prose):
        return CODE
    prose = "\n".join(line for line in prose.splitlines() if not _STATEMENT.search(line)) or prose
    name, confidence = _identifier().classify(prose[:_MOST_CHARACTERS])
    return str(name) if confidence >= LEAST_CONFIDENCE else UNKNOWN


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # Why: its model takes half a second to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([name for name in identifier.labels if len(name) == 2 and name != "la"])
    return identifier
