"""Claims about the plan of a sweep: sums over all runs, and what has no effect is refused before it costs a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.training.command_line import exit_code, train_fails, write_recipe

from instil.sweeps.plan import SweepPlan
from instil.sweeps.space import Range, Space
from instil.training.disk_space import DiskNeed


def planned(tmp_path, *, model_bytes, seconds=10.0, trials=None):
    """Return the plan of a sweep whose runs write and take that much."""
    run = SimpleNamespace(seconds=seconds, disk=DiskNeed(0, 0, model_bytes), warnings=(), notes=())
    if trials:
        space = Space({"optimizer.lr": Range(1e-5, 1e-3, True, False)}, search="optuna", trials=trials)
        return SweepPlan(tmp_path / "run", space, {"trial": run})
    space = Space({"training.seed": (1, 2, 3, 4)})
    return SweepPlan(tmp_path / "run", space, {f"seed-{seed}": run for seed in (1, 2, 3, 4)})


def test_time_and_disk_are_those_of_all_runs(tmp_path):
    assert planned(tmp_path, model_bytes=5).seconds == 40
    assert planned(tmp_path, model_bytes=5).disk_bytes == 20
    assert planned(tmp_path, model_bytes=5, trials=30).seconds == 300
    assert planned(tmp_path, model_bytes=5, trials=30).disk_bytes == 150


def test_a_disk_that_holds_one_run_and_not_all_of_them_is_warned_of(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    (warning,) = planned(tmp_path, model_bytes=free // 2).warnings
    assert "4 runs write" in warning
    assert "more than the disk has free" in warning
    assert planned(tmp_path, model_bytes=free // 100).warnings == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--adapter.rank", "8,16"], "adapter.rank has no effect: no run trains an adapter"),
        (["--training.epochs", "1,2"], "training.epochs has no effect: training.max_steps decides"),
    ],
)
def test_a_setting_without_an_effect_is_refused(words, found, base, rows, tmp_path, capsys):
    assert found in train_fails(write_recipe(tmp_path, base=base, rows=rows), *words, capsys=capsys)
    assert not Path(tmp_path, "run").exists()


@pytest.mark.slow
def test_plan_shows_runs_and_sums_and_trains_nothing(base, rows, tmp_path, capsys):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    assert exit_code("plan", str(recipe), "--adapter", "none,lora", "--optimizer.lr", "1e-3,2e-3") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert ["runs", "4", "runs"] in lines
    names = [line[0] for line in lines if line[0].startswith("kind-") or line[0].startswith("adapter-")]
    assert len(names) == 4
    assert not (tmp_path / "run").exists()
