"""Claims about `instil.sweep`: lists and `over` vary settings, and calls for one run refuse a sweep."""

from __future__ import annotations

import pytest

import instil
from instil.api.sweeping import _split
from instil.recipe import nested_settings

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
SWEPT = {"model": "demo", "sweep": {"optimizer.lr": [1e-4, 1e-3]}, "data.heldout_share": 0.2}


def test_a_list_where_one_value_is_expected_is_swept():
    single, lists = _split(
        nested_settings({"optimizer.lr": [1, 2], "adapter.targets": ["q_proj"], "optimizer": {"betas": [0.9, 0.95]}})
    )
    assert lists == {"optimizer.lr": [1, 2]}
    assert single == {"optimizer": {"betas": [0.9, 0.95]}, "adapter": {"targets": ["q_proj"]}}
    assert _split({"threads": [1, 2]}) == ({}, {"threads": [1, 2]})


@pytest.mark.slow
def test_train_refuses_a_sweep_and_plan_sums_it(tmp_path):
    with pytest.raises(instil.RecipeError, match=r"Call instil\.sweep"):
        instil.train(SWEPT, data=ROWS)
    store = {"data.store": str(tmp_path), "training.max_steps": 3, "training.batch_size": 4}
    plan = instil.plan(SWEPT, data=ROWS, **store)
    assert list(plan.runs) == ["lr-1e-4", "lr-1e-3"]
    assert plan.num_runs == 2
    assert plan.seconds == pytest.approx(sum(run.seconds for run in plan.runs.values()))
    assert [run.recipe.optimizer.lr for run in plan.runs.values()] == [1e-4, 1e-3]
    assert plan.num_stores == 1
    assert "2 runs" in repr(plan)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"over": [1e-4]}, "over: found"),
        ({"over": {"output": ["a", "b"]}}, "output cannot be swept"),
        ({}, "found no setting with several values"),
        ({"over": {"optimizer.lr": [1, 2]}, "trials": "many"}, "trials: found 'many'"),
        ({"over": {"optimizer.lr": [1, 2]}, "quiet": 1}, "quiet: found 1"),
    ],
)
def test_wrong_arguments_are_plain_errors(arguments, words, tmp_path):
    with pytest.raises(instil.RecipeError) as error:
        instil.sweep({"model": "demo", "output": str(tmp_path / "x")}, data=ROWS, **arguments)
    assert words in str(error.value)
    assert not (tmp_path / "x").exists()
