"""How answers end and whether they repeat themselves: measured on every answer, reference or not."""

from __future__ import annotations

from instil.evaluation.cases import Case, Scores

_GRAM = 4
_LOOP_ROUNDS = 4
_LOOP_LENGTH = 24
_LOOP_PIECE = 200


def repeated_share(text: str) -> float:
    """Give the share of a text's word 4-grams that occurred before in it.

    Example:
        >>> repeated_share("a b c d e f"), round(repeated_share("go on and on " * 8), 2)
        (0.0, 0.86)
    """
    words = text.split()
    grams = [tuple(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def looped_share(text: str) -> float:
    """Give the share of a text that is one piece over and over at its end: at least four times and 24 characters,
    the piece at most 200.

    Finds loops inside one word (``1500000…``) and in languages without spaces, which no words show.

    Example:
        >>> looped_share("It is 15" + "0" * 72), looped_share("the sum is 1000000"), looped_share("ha ha " * 8)
        (0.9, 0.0, 1.0)
    """
    longest = 0
    for period in range(1, min(_LOOP_PIECE, len(text) // _LOOP_ROUNDS) + 1):
        run = period
        while run < len(text) and text[-1 - run] == text[period - 1 - run]:
            run += 1
        if run >= max(_LOOP_ROUNDS * period, _LOOP_LENGTH):
            longest = max(longest, run)
    return longest / len(text) if text else 0.0


def judge_behaviour(case: Case) -> Scores:
    """Score whether the answer ended with a stop token, is not empty, and does not repeat itself (less than half of it).

    A stop string that somebody else set, such as the line break that a base model is cut at, is no stop of the model's.
    """
    text = case.answer.text
    return {
        "stops": float(case.answer.generated.stop_id is not None),
        "not_empty": float(bool(text.strip())),
        "no_repeats": float(max(repeated_share(text), looped_share(text)) < 0.5),
    }
