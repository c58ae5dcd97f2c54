from __future__ import annotations

import math

import pytest
from tests.evaluation.cases import case

from instil.evaluation.writing_scores import (
    judge_summary,
    translation_details,
    translation_differences,
    translation_figures,
)


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


@pytest.mark.slow
def test_rouge_of_equal_texts_is_one():
    pytest.importorskip("rouge_score")
    assert judge_summary(case("A cat sat. It slept.", "A cat sat. It slept."))["rougelsum"] == 1
    assert judge_summary(case("x", "A cat sat."))["rouge1"] == 0


@pytest.mark.slow
def test_differences_are_sacrebleus_own_and_paired():
    sacrebleu = pytest.importorskip("sacrebleu")
    significance = pytest.importorskip("sacrebleu.significance")
    references = [f"the number {number} cat sat on the old mat" for number in range(40)]
    good = [text if number % 3 else text.replace("old", "new") for number, text in enumerate(references)]
    bad = [text.replace("sat on", "was at") if number % 2 else text for number, text in enumerate(references)]
    ours, theirs = ([case(a, b) for a, b in zip(said, references, strict=True)] for said in (good, bad))
    found = translation_differences(ours, theirs)
    first, second = translation_figures(ours), translation_figures(theirs)
    metrics = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF()}
    for name, metric in metrics.items():
        test = significance.PairedTest([("b", bad), ("a", good)], {name: metric}, [references], test_type="bs")
        (expected,) = (results[1] for key, results in test()[1].items() if key != "System")
        assert found[name].p_value == expected.p_value
        assert found[name].difference.value == pytest.approx(first[name].value - second[name].value)
        assert found[name].counts == ""
    bleu = found["bleu"].difference
    assert 0 < bleu.low < bleu.value < bleu.high
    assert found["bleu"].change == f"{bleu.value:+.1f} [{bleu.low:+.1f}, {bleu.high:+.1f}]"
    assert math.isnan(found["chrf"].difference.low)
    assert found["chrf"].change == f"{found['chrf'].difference.value:+.1f}"


def test_equal_answers_and_a_single_sentence_have_no_p_value():
    pytest.importorskip("sacrebleu")
    cases = [case("a cat sat on the mat", "the cat sat on the mat")] * 5
    other = [case("x y z w", "the cat sat on the mat")]
    for ours, theirs in ((cases, cases), (cases[:1], other)):
        found = translation_differences(ours, theirs)
        assert {name: difference.p for name, difference in found.items()} == {"bleu": "", "chrf": ""}
    assert translation_differences(cases, cases)["bleu"].change == "+0.0"
