from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.architectures import make_base as make_architecture
from tests.training.command_line import (
    assert_equal_runs,
    losses_of,
    run_on_two,
    train,
    train_on_two,
    write_recipe,
)
from tests.training.stops import rewind

from instil.training.processes.join import LEFT_ALONE
from instil.training.records.run_folder import Run
from instil.training.step import heldout
from instil.training.step import take_step as step

TWO = {"parallel": {"processes": 2}, "evaluate": {"every": 6, "max_new_tokens": 2}}


KEEP_ALL = {"checkpoint": {"every": 3, "keep_last": 99}}


def test_two_processes_equal_one(tmp_path: Path, base: Path, rows: Path, reference: Run):
    assert_equal_runs(train_on_two(write_recipe(tmp_path, TWO, base=base, rows=rows)), reference)


@pytest.mark.slow
def test_batch_of_one_on_two_processes_equals_one(tmp_path: Path, base: Path, rows: Path):
    single = {"training": {"batch_size": 1, "max_steps": 3}}
    alone = train(write_recipe(tmp_path / "a", single, base=base, rows=rows))
    assert_equal_runs(train_on_two(write_recipe(tmp_path / "b", single, TWO, base=base, rows=rows)), alone)


NO_FIT = re.compile(r"step (\d+): a forward pass over (\d+) tokens .* Set training.micro_batch_tokens to (\d+)")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replicated", "sharded"])
@pytest.mark.long
def test_out_of_memory_on_one_of_two_names_the_cut_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run, mode: str
):
    forward = step.forward

    def too_small(loss: Any, batch: Any, **settings: Any) -> Any:
        if os.environ["RANK"] == "1" and batch.num_tokens > 110:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(loss, batch, **settings)

    recipe = write_recipe(tmp_path, TWO, {"parallel": {"mode": mode}}, base=base, rows=rows)
    with monkeypatch.context() as patch:
        patch.setattr(step, "forward", too_small)
        codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    assert "Traceback" not in said[0], said
    left = [line for line in said[0].splitlines() if line.startswith("error: ")]
    assert len(left) == 1
    assert left[0].startswith(f"error: process 0 of 2: {LEFT_ALONE} (")
    found = NO_FIT.search(said[1])
    assert found, said
    number, tokens, fits = map(int, found.groups())
    assert tokens > 110 >= fits
    assert len(losses_of(Run(tmp_path / "run", False, {}))) == number - 1
    resumed = train_on_two(recipe, "--resume", "--training.micro-batch-tokens", str(fits))
    assert_equal_runs(resumed, reference)
    cuts = [line["micro_batch_tokens"] for line in resumed.metrics() if "loss" in line]
    assert cuts[-1] == fits


@pytest.mark.slow
@pytest.mark.long
def test_out_of_memory_in_an_evaluation_of_two_loses_nothing_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run
):
    forward = heldout.forward

    def too_small(loss: Any, batch: Any, **settings: Any) -> Any:
        if os.environ["RANK"] == "1" and batch.num_tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(loss, batch, **settings)

    recipe = write_recipe(tmp_path, TWO, {"evaluate": {"every": 6, "at_start": False}}, base=base, rows=rows)
    with monkeypatch.context() as patch:
        patch.setattr(heldout, "forward", too_small)
        codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    found = re.search(
        r"held-out loss: .* Set training.micro_batch_tokens to (\d+), then continue with instil train \S+/recipe.yaml --resume",
        said[1],
    )
    assert found, said
    assert (tmp_path / "run" / "checkpoints" / "step-000004").is_dir()
    resumed = train_on_two(recipe, "--resume", "--training.micro-batch-tokens", found[1])
    assert_equal_runs(resumed, reference)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replicated", pytest.param("sharded", marks=pytest.mark.long)])
def test_two_that_share_tokens_equal_one_and_go_on_without(
    tmp_path: Path, base: Path, rows: Path, reference: Run, mode: str
):
    shared = {"parallel": {"processes": 2, "sequence": 2, "mode": mode}}
    recipe = write_recipe(tmp_path / "a", TWO, KEEP_ALL, shared, base=base, rows=rows)
    run = train_on_two(recipe)
    assert_equal_runs(run, reference)
    assert "each micro-batch is shared by 2" in (run.folder / "card.json").read_text()
    half = tmp_path / "b"
    rewind(run, 3, half / "run")
    recipe = write_recipe(half, TWO, KEEP_ALL, shared, base=base, rows=rows)
    alone = ("--parallel.processes", "1", "--parallel.sequence", "1", "--parallel.mode", "replicated")
    assert_equal_runs(train(recipe, "--resume", *alone), reference)


@pytest.mark.slow
@pytest.mark.long
def test_a_model_whose_states_cross_tokens_is_refused_before_the_run_folder(tmp_path: Path, rows: Path):
    base = make_architecture("mamba", tmp_path / "mamba", template=True)
    shared = {"parallel": {"processes": 2, "sequence": 2}}
    recipe = write_recipe(tmp_path, TWO, shared, base=base, rows=rows)
    codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    assert "error: parallel.sequence: 2, but MambaForCausalLM cannot share the tokens of an example" in "".join(said)
    assert not (tmp_path / "run").exists()
