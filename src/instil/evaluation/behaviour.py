"""How answers end and whether they repeat themselves: measured on every answer, reference or not."""

from __future__ import annotations

from instil.evaluation.cases import Case, Scores

_GRAM = 4


def repeated_share(text: str) -> float:
    """Give the share of a text's word 4-grams that occurred before in it.

    Example:
        >>> repeated_share("a b c d e f"), round(repeated_share("go on and on " * 8), 2)
        (0.0, 0.86)
    """
    words = text.split()
    grams = [tuple(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def judge_behaviour(case: Case) -> Scores:
    """Score whether the answer ended with a stop token, is not empty, and does not repeat itself (less than half of it).

    A stop string that somebody else set, such as the line break that a base model is cut at, is no stop of the model's.
    """
    text = case.answer.text
    return {
        "stops": float(case.answer.generated.stop_id is not None),
        "not_empty": float(bool(text.strip())),
        "no_repeats": float(repeated_share(text) < 0.5),
    }
