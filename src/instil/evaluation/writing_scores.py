"""The translation and summary tasks: BLEU and chrF from sacreBLEU, and ROUGE, with their signatures.

Both libraries belong to the extra ``metrics``.

Why: tokenization and smoothing keep the defaults of the libraries, since published figures use them. The signatures in
the report record them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
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
        raise MissingPackageError("sacrebleu", needed_for="the translation task", extra="metrics") from None
    return sacrebleu


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingPackageError("rouge-score", needed_for="the summary task", extra="metrics") from None
    return RougeScorer(list(ROUGE_KINDS), use_stemmer=True)


def judge_translation(case: Case) -> Scores | None:
    """Return the chrF of a sentence, between 0 and 1; BLEU is defined for a corpus only."""
    if not case.reference:
        return None
    return {"chrf_sentence": _sacrebleu().sentence_chrf(case.prediction, [case.reference]).score / 100}


def translation_figures(cases: Sequence[Case]) -> Mapping[str, Interval]:
    """Return BLEU and chrF of the corpus, between 0 and 100, with the intervals of sacreBLEU's bootstrap."""
    predictions, references = _pairs(cases)
    figures = {}
    for name, metric in _metrics().items():
        score = metric.corpus_score(predictions, references, n_bootstrap=RESAMPLES // 2 if len(predictions) > 1 else 1)
        # sacreBLEU stores the interval in private fields; one sentence alone has none.
        half = float(getattr(score, "_ci", 0.0) or 0.0)
        middle = float(getattr(score, "_mean", score.score) if len(predictions) > 1 else score.score)
        figures[name] = Interval(score.score, max(0.0, middle - half), min(100.0, middle + half), len(predictions))
    return figures


def translation_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return sacreBLEU's signatures."""
    predictions, references = _pairs(cases)
    signatures = {}
    for name, metric in _metrics().items():
        metric.corpus_score(predictions, references)
        signatures[name] = str(metric.get_signature())
    return {"signatures": signatures}


def judge_summary(case: Case) -> Scores | None:
    """Return the F-measures of ROUGE-1, ROUGE-2 and ROUGE-Lsum, between 0 and 1."""
    if not case.reference:
        return None
    rouge = _rouge().score(_sentences(case.reference), _sentences(case.prediction))
    return {kind.lower(): rouge[kind].fmeasure for kind in ROUGE_KINDS}


def summary_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return the signature of the ROUGE figures."""
    return {
        "signatures": {"rouge": f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer, lines as sentences"}
    }


def _sentences(text: str) -> str:
    """Return a text with one sentence per line, as ROUGE-Lsum expects it."""
    return "\n".join(line.strip() for line in text.replace(". ", ".\n").splitlines() if line.strip())


def _metrics() -> dict[str, Any]:
    return {"bleu": _sacrebleu().BLEU(), "chrf": _sacrebleu().CHRF()}


def _pairs(cases: Sequence[Case]) -> tuple[list[str], list[list[str]]]:
    judged = [case for case in cases if case.reference]
    return [case.prediction for case in judged], [[case.reference or "" for case in judged]]
