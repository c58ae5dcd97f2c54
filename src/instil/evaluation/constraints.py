"""The constraints task: instructions that code can check, such as length, format, language and required words.

A row holds them in the column ``constraints``: a list of mappings such as ``{"kind": "max_words", "value": 50}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from instil.errors import EvaluationError, nearest
from instil.evaluation.cases import Case, Scores
from instil.evaluation.extraction import find_json
from instil.evaluation.language import language_of

Check = Callable[[str, Any], bool]


def _is_json(text: str) -> bool:
    try:
        find_json(text)
    except ValueError:
        return False
    return True


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"[.!?。！？]+(?:\s|$)", text) if part.strip()])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _occurrences(text: str, value: Any) -> list[bool]:
    """Return for each required word, one or a list of them, whether the text contains it."""
    words = [_text(word).casefold() for word in (value if isinstance(value, list) else [value])]
    return [word in text.casefold() for word in words]


def _items(text: str) -> int:
    return len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+\S", text, re.MULTILINE))


CHECKS: Mapping[str, Check] = {
    "min_words": lambda text, value: len(text.split()) >= int(value),
    "max_words": lambda text, value: len(text.split()) <= int(value),
    "min_sentences": lambda text, value: _sentences(text) >= int(value),
    "max_sentences": lambda text, value: _sentences(text) <= int(value),
    "max_characters": lambda text, value: len(text) <= int(value),
    "num_items": lambda text, value: _items(text) == int(value),
    "num_paragraphs": lambda text, value: len([p for p in re.split(r"\n\s*\n", text) if p.strip()]) == int(value),
    "must_include": lambda text, value: all(_occurrences(text, value)),
    "must_not_include": lambda text, value: not any(_occurrences(text, value)),
    "starts_with": lambda text, value: text.lstrip().startswith(_text(value)),
    "ends_with": lambda text, value: text.rstrip().endswith(_text(value)),
    "matches": lambda text, value: re.search(_text(value), text) is not None,
    "json": lambda text, _: _is_json(text),
    "no_commas": lambda text, _: "," not in text,
    "upper_case": lambda text, _: text == text.upper() and text != text.lower(),
    "lower_case": lambda text, _: text == text.lower() and text != text.upper(),
    "language": lambda text, value: language_of(text) == _text(value),
}


def judge_constraints(case: Case) -> Scores | None:
    """Return the share of a row's constraints that the answer keeps, and whether it keeps all of them.

    Raises:
        EvaluationError: If the kind of a constraint is unknown, or its value does not fit the kind.
    """
    constraints = case.columns.get("constraints")
    if isinstance(constraints, str):
        try:
            constraints = json.loads(constraints)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(
                f"{case.prompt.place or 'constraints'}: the column constraints is no JSON ({error}). Expected a list of "
                "constraints. Correct the row."
            ) from None
    if not constraints:
        return None
    if not isinstance(constraints, list):
        constraints = [constraints]
    kept = [_keeps(case, constraint) for constraint in constraints]
    return {"all_kept": float(all(kept)), "share_kept": sum(kept) / len(kept)}


def _keeps(case: Case, constraint: Any) -> bool:
    where = case.prompt.place or "constraints"
    kind = str(constraint.get("kind") if isinstance(constraint, Mapping) else constraint)
    if kind not in CHECKS:
        raise EvaluationError(
            f"{where}: no constraint {kind!r}{nearest(kind, CHECKS)}. Expected one of {', '.join(CHECKS)}. "
            "Correct the row."
        )
    value = constraint.get("value") if isinstance(constraint, Mapping) else None
    try:
        return CHECKS[kind](case.prediction, value)
    except (TypeError, ValueError, re.error):
        raise EvaluationError(
            f"{where}: the constraint {kind} has the value {value!r}. Expected {_expected(kind)}. Correct the row."
        ) from None


def _expected(kind: str) -> str:
    """Return in words which value a kind of constraint takes."""
    if kind.startswith(("min_", "max_", "num_")):
        return "a whole number"
    if kind.startswith("must_"):
        return "a text or a list of texts"
    return "a regular expression" if kind == "matches" else "a text"
