from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.training.command_line import exit_code, write_recipe
from tests.training.tiny import CPU

from instil.recipe import Recipe
from instil.training import replicate_or_shard
from instil.training.preflight import run_preflight
from instil.training.processes.ranks import Ranks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("free", "change", "said"),
    [
        (10**12, {}, "2, replicated: each holds the whole model"),
        (1, {}, "2, sharded: the whole model would need "),
        (1, {"mode": "replicated"}, "2, replicated: each holds the whole model"),
        (10**12, {"mode": "sharded"}, "2, sharded: each holds its part of the model"),
        (1, {"optimizer": "muon"}, "and shards are refused (optimizer.name: muon: not with sharded weights"),
        (1, {"processes": 1}, "1"),
        (10**12, {"sequence": 2}, "2, replicated: each holds the whole model; each micro-batch is shared by 2"),
        (1, {"sequence": 2, "mode": "sharded"}, "2, sharded: each holds its part of the model; each micro-batch is "),
    ],
)
def test_plan_says_which_mode_a_run_of_many_would_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
    free: int,
    change: dict[str, Any],
    said: str,
):
    monkeypatch.setattr("instil.training.run_plan.free_memory", lambda device, *, sharing=None: free)
    parallel = {"processes": 2, "mode": "auto"} | {key: change[key] for key in change if key != "optimizer"}
    settings = {"parallel": parallel, "optimizer": {"name": change.get("optimizer", "adamw")}}
    assert exit_code("plan", str(write_recipe(tmp_path, settings, base=base, rows=rows))) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("processes ")]
    assert said in line


@pytest.mark.parametrize(
    ("free", "change", "sharded"),
    [
        (10**12, {}, False),
        (1, {}, True),
        (1, {"mode": "replicated"}, False),
        (10**12, {"mode": "sharded"}, True),
        (1, {"optimizer": "muon"}, False),
    ],
    ids=["fits", "does not fit", "replicated", "sharded", "refused"],
)
def test_a_run_decides_as_its_plan_and_does_not_ask_how_weights_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    free: int,
    change: dict[str, Any],
    sharded: bool,
):
    parallel = {"processes": 2, "mode": change.get("mode", "auto")}
    settings = {"parallel": parallel, "optimizer": {"name": change.get("optimizer", "adamw")}}
    recipe = Recipe.load(write_recipe(tmp_path, settings, base=base, rows=rows))
    preflight = run_preflight(recipe, Ranks(0, 1, CPU), say=lambda line: None, loads=False)
    planned = replicate_or_shard.choose_mode(preflight, preflight.sizes(), device=CPU, free=free, num_ranks=2)
    monkeypatch.setattr(replicate_or_shard, "free_memory", lambda device: free)
    monkeypatch.setattr(replicate_or_shard, "why_whole", lambda preflight: pytest.fail("why_whole may read all rows"))
    two = cast(Ranks, SimpleNamespace(size=2, device=CPU, any=bool))  # both have the same memory
    assert replicate_or_shard.wants_shards(preflight, two) == planned.sharded == sharded
