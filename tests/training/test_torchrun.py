"""Runs that torchrun starts, on one machine and on two (two launches on this one)."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.forks import Running, start_fork
from tests.training.command_line import assert_equal_runs, free_ports, train, write_recipe
from tests.training.stops import wait_for_steps

from instil.training.checkpoints.retention import step_of
from instil.training.records.run_folder import Run

pytestmark = pytest.mark.slow


SHORT: dict[str, Any] = {"training": {"max_steps": 3}, "evaluate": {"every": 3, "max_new_tokens": 1}}


def torchrun(recipe: Path, *words: str) -> Running:
    """Call torchrun in a fork; the processes that it starts are fresh ones, as everywhere."""
    from torch.distributed.run import main

    return start_fork(partial(main, [*words, "-m", "instil", "train", str(recipe)]), OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Run:
    return train(write_recipe(tmp_path_factory.mktemp("alone"), SHORT, base=base, rows=rows))


@pytest.mark.long
def test_two_processes_of_torchrun_equal_one(tmp_path: Path, base: Path, rows: Path, alone: Run):
    own = {"data": {"store": str(tmp_path / "store")}}
    started = torchrun(
        write_recipe(tmp_path, SHORT, own, base=base, rows=rows), "--standalone", "--nproc-per-node", "2"
    )
    said, _ = started.communicate(timeout=300)
    assert started.returncode == 0, said
    assert said.count("done: ") == 1
    assert_equal_runs(Run.open(tmp_path / "run"), alone)


@pytest.mark.long
def test_two_machines_of_one_process_each_equal_one(tmp_path: Path, base: Path, rows: Path, alone: Run):
    own = {"data": {"store": str(tmp_path / "store")}, "parallel": {"mode": "sharded"}}
    recipe = write_recipe(tmp_path, SHORT, own, base=base, rows=rows)
    meet = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_ports(1)[0]}", "--rdzv-id", "test")
    nodes = [
        torchrun(recipe, "--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1", *meet) for _ in range(2)
    ]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "".join(said).count("done: ") == 1
    assert_equal_runs(Run.open(tmp_path / "run"), alone)


@pytest.mark.long
def test_ctrl_c_under_torchrun_saves_and_says_where(tmp_path: Path, base: Path, rows: Path):
    endless: dict[str, Any] = {"training": {"max_steps": 100_000}, "evaluate": {"every": 90_000, "at_start": False}}
    started = torchrun(write_recipe(tmp_path, endless, base=base, rows=rows), "--standalone", "--nproc-per-node", "2")
    steps = wait_for_steps(tmp_path / "run")
    started.send_signal(signal.SIGINT)
    said, _ = started.communicate(timeout=120)
    assert said.count("finishing this step and saving") == 1, said
    assert said.count("recipe.yaml --resume") == 1, said
    newest = max(step_of(path) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest >= steps
    assert f"stopped after step {newest}; saved in " in said


def test_bad_input_under_torchrun_is_said_once(tmp_path: Path, base: Path, rows: Path):
    recipe = write_recipe(tmp_path, SHORT, {"data": {"sources": ["nowhere.jsonl"]}}, base=base, rows=rows)
    started = torchrun(recipe, "--standalone", "--nproc-per-node", "2")
    said, _ = started.communicate(timeout=300)
    assert started.returncode != 0
    assert [line for line in said.splitlines() if line.startswith("error: ") and "nowhere.jsonl" in line]
    assert not (tmp_path / "run").exists()
