"""Intervals, comparison, overlap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instil.conversation import Conversation, Message
from instil.evaluation.comparison import compare, sign_test
from instil.evaluation.contamination import contamination, trained_conversations
from instil.evaluation.intervals import mean_interval, resampled_interval, share_interval
from instil.generation.prompts import Prompt
from instil.recipe import Recipe


def test_intervals_cover_the_truth_about_95_times_in_100():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        figure = mean_interval(random.normal(0.3, 1.0, size=60).tolist())
        hits += figure.low <= 0.3 <= figure.high
    assert 180 <= hits <= 198


def test_a_share_has_the_bootstraps_interval_and_wilsons_at_the_ends():
    scipy = pytest.importorskip("scipy.stats")
    values = [1.0] * 30 + [0.0] * 70
    found = mean_interval(values)
    # Resampling a share draws from the binomial distribution.
    assert (found.low, found.high) == pytest.approx(tuple(scipy.binom.ppf([0.025, 0.975], 100, 0.3) / 100), abs=0.011)
    assert found != share_interval(30, 100)
    assert mean_interval([1.0] * 20) == share_interval(20, 20)
    assert mean_interval([0.0] * 20) == share_interval(0, 20)
    assert share_interval(20, 20).low == pytest.approx(0.8389, abs=1e-4)
    for n in range(1, 60):
        assert (share_interval(0, n).low, share_interval(n, n).high) == (0.0, 1.0)
    assert math.isnan(mean_interval([]).value)


def test_the_bootstrap_repeats_itself():
    values = [0.1, 0.5, 0.9, 0.2]
    assert mean_interval(values) == mean_interval(values)
    assert resampled_interval(1, lambda rows: np.zeros(rows.shape[:-1])).low == 0


def test_the_sign_test_equals_scipys_binomial_test():
    scipy = pytest.importorskip("scipy.stats")
    for wins, losses in [(0, 0), (5, 0), (7, 3), (30, 50), (600, 500)]:
        expected = scipy.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert sign_test(wins, losses) == pytest.approx(expected, rel=0.02)


def test_pairs_are_compared_not_averages():
    found = compare([1, 0, 1, 1], [0, 1, 1, 0])
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.difference.value == 0.25
    same = compare([0.5] * 9, [0.5] * 9)
    assert (same.ties, same.p_value, same.difference.low, same.difference.high) == (9, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same prompts"):
        compare([1], [1, 0])


def asked(text):
    return Conversation((Message("user", text), Message("assistant", "a")))


LONG = "how many eggs does the farmer sell at the market every single day of the week"


def test_overlap_counts_the_same_and_the_nearly_same():
    trained = [asked("What is the capital of Peru?"), asked(f"Tell me, {LONG}, please"), asked("Other")]
    prompts = [
        Prompt(Conversation((Message("user", text),)))
        for text in ("what is the capital of peru", LONG, "Something new entirely, never seen by it", "capital")
    ]
    found = contamination(prompts, iter(trained))
    assert found.same.value == 0.25
    assert found.overlapping.value == 0.5
    assert found.trained_conversations == 3


def test_held_out_rows_are_not_training_data(tmp_path):
    from instil.data import write

    rows = [asked(f"Question number {n} about something") for n in range(300)]
    write(rows, tmp_path / "rows.jsonl")
    recipe = Recipe.from_mapping({"data": {"sources": [str(tmp_path / "rows.jsonl")], "heldout_share": 0.2}})
    trained = list(trained_conversations(recipe))
    assert 180 <= len(trained) < 290
    none_out = recipe.override({"data": {"heldout_share": 0.0}})
    assert len(list(trained_conversations(none_out))) == 300


def test_only_rows_that_a_run_draws_are_its_training_data(tmp_path):
    from instil.data import write
    from instil.preparation.chunks import draw_rows, input_of
    from instil.recipe import Source

    path = str(tmp_path / "rows.jsonl")
    write([asked(f"Question number {n} about something") for n in range(50)], path)
    recipe = Recipe.from_mapping(
        {"data": {"sources": [{"path": path, "rows": 7}], "heldout_share": 0}, "training": {"seed": 3}}
    )
    drawn = draw_rows(input_of(Source(path=path, rows=7)), seed=3).drawn.tolist()
    assert [each.place.row - 1 for each in trained_conversations(recipe)] == drawn
    assert len(drawn) == 7


def test_rows_read_as_plain_text_are_held_out_as_training_holds_them_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "number {n} is", "completion": " {n}"}}\n' for n in range(200)))
    recipe = Recipe.from_mapping({"data": {"sources": [str(path)], "prompt_completion": "plain", "heldout_share": 0.2}})
    trained = list(trained_conversations(recipe))
    assert 120 <= len(trained) < 190
    assert all(each.plain for each in trained)


def test_standard_input_is_named_as_not_compared():
    recipe = Recipe.from_mapping({"data": {"sources": ["-"]}})
    missing = []
    assert list(trained_conversations(recipe, on_missing=missing.append)) == []
    assert "standard input" in missing[0]
