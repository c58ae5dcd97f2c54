from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.evaluation.writing_scores import judge_summary, translation_details, translation_figures


def test_translation_figures_are_sacrebleus_own():
    sacrebleu = pytest.importorskip("sacrebleu")
    pairs = [
        ("the cat sat on the mat", "the cat sat on the mat"),
        ("a dog ran away fast", "the dog ran away quickly"),
    ] * 5
    cases = [case(a, b) for a, b in pairs]
    figures = translation_figures(cases)
    predictions, references = [a for a, _ in pairs], [[b for _, b in pairs]]
    assert figures["bleu"].value == sacrebleu.corpus_bleu(predictions, references).score
    assert figures["chrf"].value == sacrebleu.corpus_chrf(predictions, references).score
    assert all(each.low <= each.value <= each.high for each in figures.values())
    assert "tok:13a" in translation_details(cases)["signatures"]["bleu"]


def test_rouge_of_equal_texts_is_one():
    pytest.importorskip("rouge_score")
    assert judge_summary(case("A cat sat. It slept.", "A cat sat. It slept."))["rougelsum"] == 1
    assert judge_summary(case("x", "A cat sat."))["rouge1"] == 0
