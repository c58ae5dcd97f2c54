"""Short answers: exact match, numbers, multiple choice.

Questionable on purpose: normalising drops case, white space and outer punctuation only. Dropping articles or all punctuation,
as reading-comprehension scores do, makes ``-5`` equal ``5``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from instil.evaluation.cases import Case, Scores

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?")
_CUES = (r"####\s*(.+)", r"\\boxed\{([^{}]*)\}", r"(?i)\banswer\s*(?:is|:|=)\s*:?\s*(.+)")
LETTERS = "ABCDEFGHIJ"


def normalise(text: str) -> str:
    """Give a text as it is compared: one case, single spaces, no quotes around it, no full stop at its end.

    Example:
        >>> normalise('  "The  Nile." ')
        'the nile'
        >>> normalise("-5")
        '-5'
    """
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    previous = None
    while previous != text:
        previous = text
        text = text.strip(" \t\"'“”‘’«»`*").rstrip(".,;:!?。！？")
    return text


def judge_exact(case: Case) -> Scores | None:
    """Score 1 where answer and reference are the same after `normalise`; ``strict``: before."""
    if case.reference is None:
        return None
    said = (case.prediction, case.answer.text)  # a reference may be a tool call, which `prediction` is without
    wanted = case.reference
    return {
        "exact_match": float(normalise(wanted) in [normalise(text) for text in said]),
        "strict": float(wanted.strip() in [text.strip() for text in said]),
    }


def final_number(text: str) -> Fraction | None:
    r"""Find the number that a text arrives at: after ``####``, in ``\boxed{}``, after "the answer is", else the last one.

    Example:
        >>> final_number("3 bags of 1,200 are 3600.\n#### 3,600")
        Fraction(3600, 1)
        >>> final_number("so it costs $4.50.")
        Fraction(9, 2)
        >>> final_number("none") is None
        True
    """
    for cue in _CUES:
        found = re.findall(cue, text)
        if found:
            number = _numbers(found[-1])
            if number:
                return number[0]
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Fraction]:
    numbers = []
    for match in _NUMBER.finditer(text.replace("−", "-")):
        written = match[0]
        if not any(char.isdigit() for char in written):
            continue
        # A minus after a digit or letter is a subtraction or a hyphen, not a sign.
        if written.startswith("-") and match.start() and text[match.start() - 1].isalnum():
            written = written[1:]
        try:
            top, _, bottom = written.replace(",", "").partition("/")
            numbers.append(Fraction(Decimal(top)) / (int(bottom) if bottom else 1))
        except (InvalidOperation, ZeroDivisionError):
            continue
    return numbers


def judge_number(case: Case) -> Scores | None:
    """Score 1 where answer and reference arrive at the same number."""
    wanted = None if case.reference is None else final_number(case.reference)
    if wanted is None:
        return None
    return {
        "numeric": float(final_number(case.prediction) == wanted),
        "has_number": float(final_number(case.prediction) is not None),
    }


def choices_of(columns: Mapping[str, Any]) -> list[str]:
    """Read a row's choices: a list of texts, or a mapping with ``text`` (ARC) or with letters as keys."""
    given = next((columns[key] for key in ("choices", "options", "endings") if columns.get(key)), None)
    if isinstance(given, Mapping):
        given = given.get("text", list(given.values()))
    return [str(choice) for choice in given] if isinstance(given, Sequence) and not isinstance(given, str) else []


def chosen_letter(text: str, choices: Sequence[str] = ()) -> str | None:
    """Find the letter that an answer chooses: at its start, after "answer is", alone, or the text of one choice.

    Example:
        >>> chosen_letter("(B) because"), chosen_letter("The answer is C."), chosen_letter("paris", ["Rome", "Paris"])
        ('B', 'C', 'B')
        >>> chosen_letter("A dog barked") is None
        True
    """
    text = text.strip().strip("*`")
    for pattern in (
        r"(?i:answer|choice|option)\s*(?:is|:|=)?\s*\(?([A-J])\b",
        r"^\(([A-J])\)",
        r"^([A-J])[).:](?:\s|$)",
        r"^([A-J])$",
        r"\\boxed\{([A-J])\}",
        r"^([a-j])[).]?$",
    ):
        found = re.search(pattern, text)
        if found:
            return found[1].upper()
    plain = normalise(text)
    same = [letter for letter, choice in zip(LETTERS, choices, strict=False) if normalise(choice) == plain]
    named = [letter for letter, choice in zip(LETTERS, choices, strict=False) if normalise(choice) in plain]
    return same[0] if same else named[0] if len(named) == 1 else None


def judge_choice(case: Case) -> Scores | None:
    """Score 1 where answer and reference choose the same letter."""
    if case.reference is None:
        return None
    choices = choices_of(case.columns)
    wanted = chosen_letter(case.reference, choices)
    if wanted is None and case.reference.strip().isdigit() and int(case.reference) < len(choices):
        wanted = LETTERS[int(case.reference)]
    if wanted is None:
        return None
    chosen = chosen_letter(case.prediction, choices)
    return {"choice": float(chosen == wanted), "has_choice": float(chosen is not None)}
