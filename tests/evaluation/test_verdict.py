"""Claims about verdicts: what they say, and that the number of prompts that they name shows the difference."""

from __future__ import annotations

import numpy as np
import pytest

from instil.evaluation.comparison import compare, compare_losses
from instil.evaluation.sign_test import sign_test
from instil.evaluation.verdict import amount, needed_to_show, prompts_needed


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "words"),
    [
        ([1] * 30 + [0] * 10, [0] * 20 + [1] * 10 + [0] * 10, "better", "better by 50 points"),
        ([0] * 20, [1] * 20, "worse", "worse by 100 points"),
        (
            [0] * 40,
            [0] * 40,
            "undecided",
            "no difference can be shown with 40 prompts, both scored the same on all of them",
        ),
        ([1], [0], "undecided", "no difference can be shown with 1 prompt"),
    ],
)
def test_a_verdict_says_what_the_pairs_show(ours, theirs, kind, words):
    verdict = compare(ours, theirs).verdict
    assert verdict.kind == kind
    assert str(verdict).startswith(words)
    assert (verdict.needed is None) == (kind != "undecided")


def test_a_win_count_against_the_mean_is_called_unclear():
    ours, theirs = [0.51] * 20 + [0.0] * 4, [0.5] * 20 + [1.0] * 4
    assert str(compare(ours, theirs).verdict) == "unclear: better on 20 and worse on 4, but the mean is worse"


def test_losses_are_in_nats_and_the_lower_is_better():
    verdict = compare_losses([(1.0, 1.0)] * 12, [(2.5, 1.0)] * 12).verdict
    assert (verdict.kind, str(verdict)) == ("better", "better: loss lower by 1.5000")


@pytest.mark.parametrize(("net", "differing"), [(0.05, 0.35), (0.1, 0.2), (0.02, 0.1)])
def test_the_number_of_prompts_shows_the_difference_in_four_of_five_samples(net, differing):
    random, number = np.random.default_rng(1), prompts_needed(net, differing=differing)
    draws = random.multinomial(number, [(differing + net) / 2, (differing - net) / 2, 1 - differing], size=400)
    shown = np.mean([sign_test(int(wins), int(losses)) < 0.05 for wins, losses, _ in draws])
    assert 0.74 < shown < 0.88
    fewer = random.multinomial(number // 4, [(differing + net) / 2, (differing - net) / 2, 1 - differing], size=400)
    assert np.mean([sign_test(int(wins), int(losses)) < 0.05 for wins, losses, _ in fewer]) < 0.5


def test_graded_scores_need_enough_that_differ():
    assert needed_to_show([0.1, -0.2, 0.0], 0.05) is None
    spread = np.random.default_rng(2).normal(0.0, 0.2, 200)
    assert 20 < needed_to_show(spread, 0.05) < 2_000


def test_an_amount_has_the_digits_that_count():
    assert [amount(value, "share") for value in (0.123, -0.0431, 0.01)] == ["12 points", "4.3 points", "1 point"]
