"""Translation and summaries: BLEU and chrF (sacreBLEU), ROUGE, each with its signature.

The libraries' own tokenization and smoothing are left at their defaults, which is what published figures use; the
signature in the report says so. They belong to the extra ``metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from instil.errors import MissingPackageError
from instil.evaluation.cases import Case, Scores
from instil.evaluation.intervals import RESAMPLES, Interval

ROUGE_KINDS = ("rouge1", "rouge2", "rougeLsum")


@cache
def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise MissingPackageError("sacrebleu", needed_for="translation task", extra="metrics") from None
    return sacrebleu


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingPackageError("rouge-score", needed_for="summary task", extra="metrics") from None
    return RougeScorer(list(ROUGE_KINDS), use_stemmer=True)


def judge_translation(case: Case) -> Scores | None:
    """Give a sentence's chrF in 0…1; BLEU is for whole sets only."""
    if not case.reference:
        return None
    return {"chrf_sentence": _sacrebleu().sentence_chrf(case.prediction, [case.reference]).score / 100}


def translation_figures(cases: Sequence[Case]) -> Mapping[str, Interval]:
    """Give corpus BLEU and chrF, 0…100, with sacreBLEU's own bootstrap."""
    predictions, references = _pairs(cases)
    figures = {}
    for name, metric in _metrics().items():
        score = metric.corpus_score(predictions, references, n_bootstrap=RESAMPLES // 2 if len(predictions) > 1 else 1)
        half = float(getattr(score, "_ci", 0.0) or 0.0)
        middle = float(getattr(score, "_mean", score.score) if len(predictions) > 1 else score.score)
        figures[name] = Interval(score.score, max(0.0, middle - half), min(100.0, middle + half), len(predictions))
    return figures


def translation_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Give sacreBLEU's signatures."""
    predictions, references = _pairs(cases)
    signatures = {}
    for name, metric in _metrics().items():
        metric.corpus_score(predictions, references)
        signatures[name] = str(metric.get_signature())
    return {"signatures": signatures}


def judge_summary(case: Case) -> Scores | None:
    """Give ROUGE-1, ROUGE-2 and ROUGE-Lsum F-measures in 0…1."""
    if not case.reference:
        return None
    found = _rouge().score(_sentences(case.reference), _sentences(case.prediction))
    return {kind.lower(): found[kind].fmeasure for kind in ROUGE_KINDS}


def summary_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Give what the ROUGE figures were made with."""
    from importlib.metadata import version

    return {
        "signatures": {"rouge": f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer, lines as sentences"}
    }


def _sentences(text: str) -> str:
    return "\n".join(line.strip() for line in text.replace(". ", ".\n").splitlines() if line.strip())


def _metrics() -> dict[str, Any]:
    return {"bleu": _sacrebleu().BLEU(), "chrf": _sacrebleu().CHRF()}


def _pairs(cases: Sequence[Case]) -> tuple[list[str], list[list[str]]]:
    judged = [case for case in cases if case.reference]
    return [case.prediction for case in judged], [[case.reference or "" for case in judged]]
