"""Claims about what a sweep varies: every value is checked before a run, and what cannot be swept is named."""

from __future__ import annotations

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.sweeps.space import Range, read_space, with_settings


def space_of(**sweep):
    return read_space(Recipe.from_mapping({"sweep": sweep}))


def test_several_settings_are_all_combinations_the_last_one_fastest():
    space = space_of(**{"optimizer.lr": ["1e-4", 3e-4], "adapter": {"rank": [8, 16]}})
    assert space.num_runs == 4
    assert [tuple(settings.values()) for settings in space.combinations()] == [
        (1e-4, 8), (1e-4, 16), (3e-4, 8), (3e-4, 16),
    ]  # fmt: skip


def test_a_list_of_lists_sweeps_a_list():
    space = space_of(**{"adapter.targets": [["q_proj"], ["q_proj", "v_proj"]], "optimizer.betas": [[0.9, 0.95]]})
    assert list(space.combinations()) == [
        {"adapter.targets": ["q_proj"], "optimizer.betas": [0.9, 0.95]},
        {"adapter.targets": ["q_proj", "v_proj"], "optimizer.betas": [0.9, 0.95]},
    ]


def test_sources_are_swept_by_their_paths():
    space = space_of(**{"data.sources": ["a.jsonl", {"path": "b.jsonl", "repeat": 2}]})
    recipes = [with_settings(Recipe(), settings) for settings in space.combinations()]
    assert [[(source.path, source.repeat) for source in recipe.data.sources] for recipe in recipes] == [
        [("a.jsonl", 1)], [("b.jsonl", 2)],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("1e-5..1e-3", Range(1e-5, 1e-3, True, False)),
        ("1e-5..1e-3:linear", Range(1e-5, 1e-3, False, False)),
        ({"low": 1e-5, "high": "1e-3", "log": False}, Range(1e-5, 1e-3, False, False)),
    ],
)
def test_a_range_of_rates_is_logarithmic_unless_it_says_otherwise(value, span):
    assert space_of(**{"optimizer.lr": value}, search="optuna", trials="7").values == {"optimizer.lr": span}


def test_a_range_of_whole_numbers_is_whole():
    space = space_of(**{"adapter.rank": "4..64:log", "training.epochs": "1..3"}, search="optuna", trials=2)
    assert space.values == {"adapter.rank": Range(4, 64, True, True), "training.epochs": Range(1, 3, False, False)}
    assert space.num_runs == 2


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"output": ["a", "b"]}, "output cannot be swept"),
        ({"data.store": ["a", "b"]}, "data.store cannot be swept"),
        ({"training": [1]}, "training is a group of settings"),
        ({"optimizer.rl": [1, 2]}, "unknown setting 'optimizer.rl' (did you mean 'optimizer.lr'?)"),
        ({"learning_rate": [1, 2]}, "optimizer.lr"),
        ({"optimizer.lr": []}, "empty list"),
        ({"optimizer.lr": 1e-4}, "Expected a list of values"),
        ({"optimizer.lr": [1e-4, "0.0001"]}, "found 1e-4 twice"),
        ({"optimizer.lr": [1e-4, -1]}, "optimizer.lr: found -1"),
        ({"optimizer.lr": [1e-4, [1]]}, "optimizer.lr: found [1]"),
        ({"optimizer.name": ["adamw", "sgdd"]}, "optimizer.name: found 'sgdd'"),
        ({"optimizer.lr": "1e-5..1e-3"}, "no search is set"),
        ({"optimizer.lr": "1e-3..1e-5", "search": "optuna", "trials": 3}, "below the upper one"),
        ({"training.epochs": "0..3:log", "search": "optuna", "trials": 3}, "above 0"),
        ({"optimizer.lr": "0..1e-3", "search": "optuna", "trials": 3}, "optimizer.lr: found 0"),
        ({"optimizer.name": {"low": 1, "high": 2}, "search": "optuna", "trials": 3}, "it is no number"),
        ({"adapter.rank": {"low": 1.5, "high": 2}, "search": "optuna", "trials": 3}, "Expected a whole number"),
        ({"optimizer.lr": [1, 2], "search": "optuna"}, "sweep.trials"),
        ({"optimizer.lr": [1, 2], "trials": 3}, "no search is set"),
        ({"optimizer.lr": [1, 2], "search": "grid", "trials": 3}, "sweep.search: found 'grid'"),
        ({"optimizer.lr": [1, 2], "search": "optuna", "trials": 0}, "sweep.trials: found 0"),
        ({"optimizer.lr": [1, 2], "direction": "up"}, "sweep.direction"),
        ({"best_by": "numeric"}, "found no setting with several values"),
        ({"training.seed": list(range(1001))}, "1,001 runs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_before_anything_runs(sweep, words):
    with pytest.raises(RecipeError) as error:
        space_of(**sweep)
    assert words in str(error.value)
    assert "Input should be a valid list" not in str(error.value)


def test_a_task_is_best_when_it_is_high_and_a_loss_when_it_is_low():
    lists = {"optimizer.lr": [1, 2]}
    assert space_of(**lists).direction == "min"
    assert space_of(**lists, best_by="numeric").direction == "max"
    assert space_of(**lists, best_by="behaviour.no_repeats", direction="min").direction == "min"
