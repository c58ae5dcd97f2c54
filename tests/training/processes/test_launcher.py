from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from tests.forks import Running, start_fork
from tests.training.command_line import (
    assert_equal_runs,
    train_fails,
    write_recipe,
)
from tests.training.stops import wait_for_steps

from instil.cli.main import main
from instil.errors import TrainingError
from instil.recipe import Recipe
from instil.training.processes.join import LEFT_ALONE
from instil.training.processes.launcher import PROCESS, Forwarding, Handed, _environments, _reason
from instil.training.processes.signals import LAUNCHER, Stopped, handled
from instil.training.records.run_folder import Run
from instil.training.run import train as train_here

TWO = {"parallel": {"processes": 2}, "evaluate": {"every": 6, "max_new_tokens": 2}}


@pytest.mark.slow
def test_two_processes_that_are_started_here_equal_one_and_are_quiet_where_asked(
    tmp_path: Path, base: Path, rows: Path, reference: Run, capfd: pytest.CaptureFixture[str]
):
    two = {"parallel": {"processes": 2, "mode": "sharded"}}
    recipe = Recipe.load(write_recipe(tmp_path, TWO, two, base=base, rows=rows))
    assert_equal_runs(train_here(recipe, quiet=True), reference)
    assert capfd.readouterr() == ("", "")


def start(recipe: Path, *words: str, **environment: str) -> Running:
    """Call `instil train` in a fork; the processes that it starts are fresh ones, as everywhere."""
    work = partial(main, ("train", str(recipe), *words))
    return start_fork(work, separate_errors=True, OMP_NUM_THREADS="1", **environment)


@pytest.mark.slow
@pytest.mark.long
def test_a_dead_process_ends_the_run_with_its_reason_and_sigterm_saves(tmp_path: Path, base: Path, rows: Path):
    endless = {"training": {"max_steps": 100_000}, "evaluate": {"every": 90_000}, "checkpoint": {"every": 5}}
    recipe = write_recipe(tmp_path, TWO, endless, base=base, rows=rows)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running = start(recipe, TMPDIR=str(temporary))
    steps = wait_for_steps(tmp_path / "run", 12)
    assert not [path for path in temporary.rglob("*") if path.is_file()]  # whatever kills it, none is left
    second = [
        child for child in psutil.Process(running.pid).children(recursive=True) if child.environ().get("RANK") == "1"
    ]
    assert len(second) == 1
    second[0].kill()
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 2
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "process 1 of 2 was killed by SIGKILL" in said[0]
    assert "--resume" in said[0]

    running = start(recipe, "--resume")
    wait_for_steps(tmp_path / "run", steps + 20)
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGTERM
    assert "resuming from" in output
    assert output.count("finishing this step") == 1
    assert "saved in" in output


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_of_several_processes_ends_as_one_does(tmp_path: Path, base: Path, rows: Path):
    running = start(write_recipe(tmp_path, TWO, base=base, rows=rows))
    for _ in range(1200):
        if len(psutil.Process(running.pid).children()) == 2:
            break
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert (running.returncode, errors) == (130, "error: stopped by Ctrl-C\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_as_it_came_and_left_to_the_run_to_speak_of(
    number: int, capsys: pytest.CaptureFixture[str]
):
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    handlers = {rank: SimpleNamespace(proc=child) for rank, child in enumerate(children)}
    stops = Forwarding()
    with handled(stops):
        os.kill(os.getpid(), number)
        assert [child.poll() for child in children] == [None, None]
        stops.begin(SimpleNamespace(subprocess_handlers=handlers))
        assert [child.wait(10) for child in children] == [-number, -number]
        with pytest.raises(Stopped, match=signal.Signals(number).name):
            os.kill(os.getpid(), number)
    assert stops.first == number
    assert capsys.readouterr().out == ""


def failed(*exit_codes: int) -> dict[int, Any]:
    return {rank: SimpleNamespace(local_rank=rank, exitcode=code, timestamp=5) for rank, code in enumerate(exit_codes)}


@pytest.mark.parametrize(
    ("exit_codes", "said", "asked", "reason"),
    [
        ((130, 130), ["error: stopped by Ctrl-C", "error: stopped by Ctrl-C"], signal.SIGINT, Stopped(signal.SIGINT)),
        ((-2, 2), ["KeyboardInterrupt", f"error: process 1 of 2: {LEFT_ALONE}"], signal.SIGINT, Stopped(signal.SIGINT)),
        ((-15, 143), ["", "error: stopped by SIGTERM"], signal.SIGTERM, Stopped(signal.SIGTERM)),
        ((2, 143), ["error: the disk is full", "error: stopped by SIGTERM"], signal.SIGTERM, TrainingError("the disk")),
        ((143, 2), ["error: stopped by SIGTERM", "error: no such file"], None, TrainingError("no such file")),
        ((-9, 143), ["", "error: stopped by SIGTERM"], None, TrainingError("process 0 of 2 was killed by SIGKILL.")),
        ((-9, 0), ["", ""], signal.SIGTERM, TrainingError("process 0 of 2 was killed by SIGKILL.")),
    ],
)
def test_the_reason_of_an_end_is_an_error_before_a_signal_and_a_signal_before_a_death(
    exit_codes: tuple[int, ...], said: list[str], asked: int | None, reason: BaseException
):
    found = _reason(failed(*exit_codes), [[line] if line else [] for line in said], asked)
    assert type(found) is type(reason)
    assert str(found).startswith(str(reason))


def test_what_is_handed_over_says_which_settings_were_set():
    """A resumed run keeps the saved value of the others."""
    recipe = Recipe.from_mapping({"parallel": {"processes": 2}, "optimizer": {"betas": [0.9, 0.98]}, "output": "a ü"})
    handed = Handed.from_json(Handed(recipe, resume=True, quiet=False).to_json())
    assert handed == Handed(recipe, resume=True, quiet=False)
    assert handed.recipe.model_dump(exclude_unset=True) == recipe.model_dump(exclude_unset=True)


@pytest.mark.slow
def test_a_process_ends_with_its_launcher():
    """The launcher that it is told of is not its parent, so that one is gone: it must not wait for it."""
    assert _environments(2, 1)[1][LAUNCHER] == str(os.getpid())
    gone = _environments(2, 1)[1] | {LAUNCHER: str(os.getpid() + 1)}
    assert subprocess.run([sys.executable, "-m", PROCESS], env=os.environ | gone).returncode == -signal.SIGKILL


NO_MEMORY = """
import os
import torch
from instil.training.step import take_step as step

def too_small(*given, **settings):
    raise torch.OutOfMemoryError("CUDA out of memory.")

if os.environ.get("RANK") == "1":
    step.forward = too_small
"""


NO_FIT = re.compile(r"step (\d+): a forward pass over (\d+) tokens .* Set training.micro_batch_tokens to (\d+)")


@pytest.mark.slow
@pytest.mark.long
def test_the_reason_of_one_of_two_is_the_error_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    """Python runs a module of the name `sitecustomize` when it starts: so the second process has no memory."""
    (tmp_path / "sitecustomize.py").write_text(NO_MEMORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    quiet = {"evaluate": {"at_start": False}}
    assert NO_FIT.search(train_fails(write_recipe(tmp_path, TWO, quiet, base=base, rows=rows), capsys=capsys))


@pytest.mark.slow
def test_bad_input_with_two_processes_is_one_line(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = write_recipe(tmp_path, TWO, {"data": {"sources": ["nowhere.jsonl"]}}, base=base, rows=rows)
    assert "nowhere.jsonl" in train_fails(recipe, capsys=capsys)
    assert not (tmp_path / "run").exists()
