"""What every figure of a task means, in one line. The terminal, the Markdown, the page and the JSON take it from here."""

from __future__ import annotations

from collections.abc import Mapping

FIGURES: Mapping[str, Mapping[str, str]] = {
    "exact_match": {
        "exact_match": "answers equal to the reference, ignoring case, spaces, outer quotes and a final full stop",
        "strict": "answers equal to the reference, character by character",
    },
    "numeric": {
        "numeric": "answers whose final number is the reference's",
        "has_number": "answers in which a final number can be read, right or wrong",
    },
    "choice": {
        "choice": "answers that choose the reference's letter",
        "has_choice": "answers that choose exactly one letter, right or wrong",
    },
    "classification": {
        "accuracy": "answers that name the reference's label and no other",
        "has_label": "answers that name exactly one label, right or wrong",
        "macro_f1": "mean of the labels' F1, so that rare labels count as much as common ones; no prompt wins or loses",
    },
    "json": {
        "valid_json": "answers with JSON that can be parsed",
        "matches_schema": "answers whose JSON fits the schema",
        "field_f1": "F1 of the JSON fields against the reference's, the mean of all answers",
        "all_fields": "answers with all fields of the reference, right, and no other",
    },
    "translation": {
        "chrf_sentence": "chrF of each answer against its reference (character n-grams), the mean of all answers",
        "bleu": "sacreBLEU's BLEU of all answers together, 0 to 100 (word n-grams); no prompt wins or loses",
        "chrf": "sacreBLEU's chrF of all answers together, 0 to 100; no prompt wins or loses",
    },
    "summary": {
        "rouge1": "words shared with the reference (F-measure), the mean of all answers",
        "rouge2": "word pairs shared with the reference (F-measure), the mean of all answers",
        "rougelsum": "longest common word sequences of the sentences (F-measure), the mean of all answers",
    },
    "code": {
        "compiles": "answers whose code Python can compile",
        "passes_tests": "answers whose code passes the tests of its row",
    },
    "constraints": {
        "all_kept": "answers that keep every constraint of their row",
        "share_kept": "constraints kept, the mean of all answers",
    },
    "behaviour": {
        "stops": "answers that the model ends by itself with a stop token, before the limit on new tokens",
        "not_empty": "answers with any text",
        "no_repeats": "answers of which less than half repeats earlier words or is a loop",
    },
    "preference": {
        "accuracy": "pairs whose chosen answer is the more likely one, ties counted half",
        "per_token": "the same per token, so that a longer answer is not less likely for its length",
        "margin": "log-probability of the chosen answer minus that of the rejected one, in nats, the mean of all pairs",
        "length_controlled": "accuracy with pairs of a longer and of a shorter chosen answer counted half each",
    },
    "judge": {
        "win_rate": "prompts on which the judge finds this model's answer better, in both orders; ties counted half",
    },
    "multi_turn": {
        "consistent": "last answers that stay the same after the model's own earlier answers instead of the data's",
        "right_after_own": "last answers equal to the reference after the model's own earlier answers",
    },
    "system_prompt": {
        "right_with": "answers equal to the reference, with the system text",
        "right_without": "answers equal to the reference, without the system text",
        "changes_answer": "answers that change without the system text; neither high nor low is better",
    },
}
"""The meaning of each figure, by task and name."""
LOSS = "loss per trained token"
PERPLEXITY = "perplexity"
LOSSES: Mapping[str, str] = {
    LOSS: "how unlikely the model finds the reference answers, in nats per trained token; lower is better",
    PERPLEXITY: "e to the power of the loss; lower is better",
}


def label_of(figure: str) -> str:
    """Return the name of a figure for people, without its task where both have one name.

    Args:
        figure: The figure, as ``task.figure``.

    Example:
        >>> label_of("exact_match.exact_match"), label_of("exact_match.strict")
        ('exact_match', 'exact_match: strict')
    """
    task, _, name = figure.partition(".")
    return task if name in (task, "") else f"{task}: {name}"


def meaning_of(task: str, name: str) -> str:
    """Return what a figure means; empty for a figure that is not known here.

    Example:
        >>> meaning_of("code", "compiles")
        'answers whose code Python can compile'
    """
    return FIGURES.get(task, {}).get(name, "")
