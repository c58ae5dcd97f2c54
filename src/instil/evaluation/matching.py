"""The exact_match task, and comparing and finding short texts regardless of how they are written.

Why: `normalise` removes only case, extra white space and outer punctuation. Reading-comprehension scores also remove
articles and all punctuation, which makes ``-5`` equal to ``5``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from instil.evaluation.cases import Case, Scores
from instil.evaluation.language import SPACELESS

_QUOTES = " \t\"'“”‘’«»„「」`*"
_PUNCTUATION = ".,;:!?。！？"
_PIECE = re.compile(r"[^ ]{0,1000} |[^ ]{1,1000}")
_GLUED = f"{SPACELESS}\uac00-\ud7af"
"""Scripts in which a word may stand without a space before or after it; Korean adds its particles."""
_DENIED = r"(?<!\bnot )(?<!\bnot the )(?<!\bnot an )(?<!\bnot a )(?<!\bnicht )(?<!n't )(?<!不是)(?<!instead of )(?<!rather than )"


def normalise(text: str) -> str:
    """Return a text in the form in which it is compared: one case, single spaces, no outer quotes or final full stop.

    Example:
        >>> normalise('  "The  Nile." ')
        'the nile'
        >>> normalise("-5")
        '-5'
    """
    # Piece by piece: NFKC takes quadratic time for a run of accents. A space never combines with what follows.
    text = "".join(unicodedata.normalize("NFKC", piece) for piece in _PIECE.findall(text))
    text = " ".join(text.casefold().split())
    # Quotes and punctuation can be nested: `"Oslo."`.
    return text.lstrip(_QUOTES).rstrip(_QUOTES + _PUNCTUATION)


def named_in(text: str, names: Sequence[str]) -> list[int]:
    """Return the indices of the names that a text contains as words of their own and does not deny.

    Names and text are in the form of `normalise`. Of "good" and "very good" only the longer one is named by "very good".

    Example:
        >>> named_in("it is very good, not poor", ["good", "very good", "poor", ""])
        [1]
        >>> named_in("apples in the wind", ["a", "in", "win"]), named_in("答案是巴黎", ["罗马", "巴黎"])
        ([1], [1])
    """
    found = [index for index, name in enumerate(names) if name and re.search(_as_word(name), text)]
    return [
        index
        for index in found
        if not any(names[index] != names[other] and names[index] in names[other] for other in found)
    ]


def _as_word(name: str) -> str:
    """Return a pattern for a name that is no part of a longer word or number."""
    before = after = ""
    if re.match(rf"[^\W{_GLUED}]", name):
        before = rf"(?<![^\W{_GLUED}])"
    if re.match(r"\d", name):  # not the 5 of -5, 3.5 and 2/5
        before += r"(?<!\d[.,/])(?<![-−])"
    if re.search(rf"[^\W{_GLUED}]$", name):
        after = rf"(?![^\W{_GLUED}])"
    if re.search(r"\d$", name):
        after += r"(?![.,/]\d)"
    return f"{_DENIED}{before}{re.escape(name)}{after}"


def judge_exact(case: Case) -> Scores | None:
    """Score 1 if answer and reference are equal after `normalise`; ``strict``: if they are equal before it."""
    if case.reference is None:
        return None
    # The reference may be a tool call, which `prediction` does not contain.
    texts = (case.prediction, case.answer.text)
    return {
        "exact_match": float(normalise(case.reference) in [normalise(text) for text in texts]),
        "strict": float(case.reference.strip() in [text.strip() for text in texts]),
    }
