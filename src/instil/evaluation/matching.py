"""The tasks on short answers: exact match, final number and multiple choice.

Why: `normalise` removes only case, extra white space and outer punctuation. Reading-comprehension scores also remove
articles and all punctuation, which makes ``-5`` equal to ``5``.
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
    """Return a text in the form in which it is compared: one case, single spaces, no outer quotes or final full stop.

    Example:
        >>> normalise('  "The  Nile." ')
        'the nile'
        >>> normalise("-5")
        '-5'
    """
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    previous = None
    # Repeated until nothing changes, since quotes and punctuation can be nested: `"Oslo."`.
    while previous != text:
        previous = text
        text = text.strip(" \t\"'“”‘’«»`*").rstrip(".,;:!?。！？")
    return text


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


def final_number(text: str) -> Fraction | None:
    r"""Return the result of a text: the number after ``####``, in ``\boxed{}``, after "answer is", or the last one.

    Example:
        >>> final_number("3 bags of 1,200 are 3600.\n#### 3,600")
        Fraction(3600, 1)
        >>> final_number("so it costs $4.50.")
        Fraction(9, 2)
        >>> final_number("none") is None
        True
    """
    for cue in _CUES:
        marked = re.findall(cue, text)
        if marked:
            numbers = _numbers(marked[-1])
            if numbers:
                return numbers[0]
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
    """Score 1 if answer and reference have the same final number."""
    expected = None if case.reference is None else final_number(case.reference)
    if expected is None:
        return None
    return {
        "numeric": float(final_number(case.prediction) == expected),
        "has_number": float(final_number(case.prediction) is not None),
    }


def choices_of(columns: Mapping[str, Any]) -> list[str]:
    """Return the choices of a row: a list of texts, or a mapping with ``text`` (ARC) or with letters as keys."""
    choices = next((columns[key] for key in ("choices", "options", "endings") if columns.get(key)), None)
    if isinstance(choices, Mapping):
        choices = choices.get("text", list(choices.values()))
    return [str(choice) for choice in choices] if isinstance(choices, Sequence) and not isinstance(choices, str) else []


def chosen_letter(text: str, choices: Sequence[str] = ()) -> str | None:
    """Return the letter that an answer chooses: at its start, after "answer is", alone, or by the text of one choice.

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
        match = re.search(pattern, text)
        if match:
            return match[1].upper()
    plain = normalise(text)
    same = [letter for letter, choice in zip(LETTERS, choices, strict=False) if normalise(choice) == plain]
    named = [letter for letter, choice in zip(LETTERS, choices, strict=False) if normalise(choice) in plain]
    return same[0] if same else named[0] if len(named) == 1 else None


def judge_choice(case: Case) -> Scores | None:
    """Score 1 if answer and reference choose the same letter."""
    if case.reference is None:
        return None
    choices = choices_of(case.columns)
    expected = chosen_letter(case.reference, choices)
    # Some data sets name the right choice by its index, counted from 0.
    if expected is None and case.reference.strip().isdigit() and int(case.reference) < len(choices):
        expected = LETTERS[int(case.reference)]
    if expected is None:
        return None
    chosen = chosen_letter(case.prediction, choices)
    return {"choice": float(chosen == expected), "has_choice": float(chosen is not None)}
