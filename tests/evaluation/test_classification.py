from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.evaluation.classification import confusion, label_in, macro_f1, make_judge

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
