from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.evaluation.classification import confusion, label_in, macro_f1, macro_f1_difference, make_judge

LABELS = ["negative", "neutral", "positive"]


@pytest.mark.slow
def test_macro_f1_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    wanted = ["positive"] * 6 + ["negative"] * 3 + ["neutral"] * 2
    said = ["positive"] * 4 + ["negative", "It is neutral."] + ["negative", "positive", "rubbish"] + ["neutral"] * 2
    cases = [case(a, b) for a, b in zip(said, wanted, strict=True)]
    chosen = [label_in(text, LABELS) for text in said]
    expected = sklearn.f1_score(wanted, chosen, average="macro", labels=LABELS)
    figure = macro_f1(cases)["macro_f1"]
    assert figure.value == pytest.approx(expected)
    assert figure.low <= figure.value <= figure.high
    assert make_judge(LABELS)(cases[5])["accuracy"] == 0
    matrix = confusion(cases)
    assert matrix["labels"] == [*LABELS, "(none)"]
    assert matrix["confusion"] == [[1, 0, 1, 1], [0, 2, 0, 0], [1, 1, 4, 0]]


def test_a_label_inside_another_is_not_two_labels():
    assert label_in("very good", ["good", "very good"]) == "very good"
    assert label_in("It was very good!", ["good", "very good"]) == "very good"
    assert label_in("goodness", ["good"]) == "(none)"


def test_the_difference_of_macro_f1_is_that_of_the_figures_and_paired():
    wanted = ["negative", "neutral", "positive"] * 20
    noisy = [label if number % 4 else "positive" for number, label in enumerate(wanted)]
    better = [label if number % 8 else "positive" for number, label in enumerate(wanted)]
    ours, theirs = ([case(a, b) for a, b in zip(said, wanted, strict=True)] for said in (better, noisy))
    found = macro_f1_difference(ours, theirs)["macro_f1"]
    first, second = macro_f1(ours)["macro_f1"], macro_f1(theirs)["macro_f1"]
    assert found.difference.value == pytest.approx(first.value - second.value)
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    # Pairing: the same prompts are hard for both, so the difference varies less than the sum of both.
    assert found.difference.high - found.difference.low < (first.high - first.low) + (second.high - second.low)
    assert (found.counts, found.p) == ("", "")
    assert found.change.startswith(f"{100 * found.difference.value:+.1f} points [+")
    same = macro_f1_difference(ours, ours)["macro_f1"]
    assert same.change == "+0.0 points"
