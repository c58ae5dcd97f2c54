"""How answers end and whether they repeat themselves.

It is measured on every answer, with or without a reference.
"""

from __future__ import annotations

from instil.evaluation.cases import Case, Scores

_GRAM = 4
_LOOP_ROUNDS = 4
_LOOP_LENGTH = 24
_LOOP_PIECE = 200


def repeated_share(text: str) -> float:
    """Return the share of a text's word 4-grams that occur earlier in the text.

    Example:
        >>> repeated_share("a b c d e f"), round(repeated_share("go on and on " * 8), 2)
        (0.0, 0.86)
    """
    words = text.split()
    grams = [tuple(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def looped_share(text: str) -> float:
    """Return the share of a text that is a loop at its end: one piece, repeated without a gap.

    A loop has at least four rounds and 24 characters; its piece has at most 200 characters.
    Counting characters finds loops inside one word (``1500000…``) and in languages without spaces.

    Example:
        >>> looped_share("It is 15" + "0" * 72), looped_share("the sum is 1000000"), looped_share("ha ha " * 8)
        (0.9, 0.0, 1.0)
    """
    longest = 0
    # A text ends in a loop of a period if each character at its end equals the one a period earlier.
    for period in range(1, min(_LOOP_PIECE, len(text) // _LOOP_ROUNDS) + 1):
        run = period
        while run < len(text) and text[-1 - run] == text[period - 1 - run]:
            run += 1
        if run >= max(_LOOP_ROUNDS * period, _LOOP_LENGTH):
            longest = max(longest, run)
    return longest / len(text) if text else 0.0


def judge_behaviour(case: Case) -> Scores:
    """Score whether the answer ends with a stop token, is not empty and has less than half of it repeated.

    An answer cut at a stop string, such as the line break for a base model, has no score for `stops`: whether the model
    would have stopped is unknown.
    """
    text, generated = case.answer.text, case.answer.generated
    scores = {
        "not_empty": float(bool(text.strip())),
        "no_repeats": float(max(repeated_share(text), looped_share(text)) < 0.5),
    }
    is_cut = generated.finish_reason == "stop" and generated.stop_id is None
    return scores if is_cut else {"stops": float(generated.stop_id is not None), **scores}
