from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from tests.training.command_line import (
    losses_of,
    run_on_two,
    train,
    train_fails,
    train_on_two,
    weights_of,
    write_recipe,
)
from tests.training.test_run import interrupted

from instil.errors import TrainingError
from instil.model.folder import memory_check as room
from instil.recipe import Recipe
from instil.training import setup
from instil.training.memory import usage
from instil.training.processes.join import LEFT_ALONE, is_left_alone, last_line
from instil.training.processes.launcher import PROCESS, Forwarding, Handed, _environments, _reason
from instil.training.processes.signals import LAUNCHER, TORCHRUN, Stopped, StopRequest, handled
from instil.training.records.run_folder import Run
from instil.training.run import train as train_here
from instil.training.step import heldout
from instil.training.step import take_step as step
from instil.training.step.precision import Precision, choose_precision
from instil.training.step.sharding import why_no_shards

TWO = {"parallel": {"processes": 2}, "evaluate": {"every": 6, "max_new_tokens": 2}}
KEEP_ALL = {"checkpoint": {"every": 3, "keep_last": 99}}


def assert_equal_runs(run: Run, reference: Run) -> None:
    assert len(losses_of(run)) == len(losses_of(reference))
    assert losses_of(run)[:3] == pytest.approx(losses_of(reference)[:3], abs=1e-5)
    assert losses_of(run) == pytest.approx(losses_of(reference), abs=1e-4)
    assert run.results["heldout_loss"] == pytest.approx(reference.results["heldout_loss"], abs=1e-4)
    counts = [(line["tokens"], line["trained_tokens"]) for line in run.metrics() if "loss" in line]
    assert counts == [(line["tokens"], line["trained_tokens"]) for line in reference.metrics() if "loss" in line]


def test_two_processes_equal_one(tmp_path: Path, base: Path, rows: Path, reference: Run):
    assert_equal_runs(train_on_two(write_recipe(tmp_path, TWO, base=base, rows=rows)), reference)


@pytest.mark.slow
def test_two_processes_that_are_started_here_equal_one_and_are_quiet_where_asked(
    tmp_path: Path, base: Path, rows: Path, reference: Run, capfd: pytest.CaptureFixture[str]
):
    two = {"parallel": {"processes": 2, "mode": "sharded"}}
    recipe = Recipe.load(write_recipe(tmp_path, TWO, two, base=base, rows=rows))
    assert_equal_runs(train_here(recipe, quiet=True), reference)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_batch_of_one_on_two_processes_equals_one(tmp_path: Path, base: Path, rows: Path):
    single = {"training": {"batch_size": 1, "max_steps": 3}}
    alone = train(write_recipe(tmp_path / "a", single, base=base, rows=rows))
    assert_equal_runs(train_on_two(write_recipe(tmp_path / "b", single, TWO, base=base, rows=rows)), alone)


def rewind(run: Run, to_step: int, folder: Path) -> None:
    """Copy a run as if it had been killed just after a checkpoint."""
    shutil.copytree(run.folder, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "model")
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > to_step:
            shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sharded_equals_replicated_and_goes_on_with_another_number_of_processes(
    tmp_path: Path, base: Path, rows: Path, reference: Run, precision: str
):
    change: tuple[dict[str, Any], ...] = (KEEP_ALL, {"training": {"precision": precision}})
    sharded = {"parallel": {"processes": 2, "mode": "sharded"}, "evaluate": TWO["evaluate"]}
    run = train_on_two(write_recipe(tmp_path / "two", *change, sharded, base=base, rows=rows))
    if precision == "fp32":
        assert_equal_runs(run, reference)
    pieces = sorted(path.name for path in (run.folder / "checkpoints" / "step-000006").glob("weights-*"))
    assert pieces == ["weights-00000.safetensors", "weights-00001.safetensors"]
    recipe = write_recipe(tmp_path / "one", *change, base=base, rows=rows)
    rewind(run, 6, tmp_path / "one" / "run")
    resumed = train(recipe, "--resume", "--parallel.processes", "1", "--parallel.mode", "replicated")
    tolerance = 1e-4 if precision == "fp32" else 0.05
    assert losses_of(resumed) == pytest.approx(losses_of(run), abs=tolerance)
    for name, weight in weights_of(run).items():
        assert torch.allclose(weight.float(), weights_of(resumed)[name].float(), atol=20 * tolerance), name


@pytest.mark.parametrize("change", [{}, {"adapter": {"kind": "lora", "rank": 4}}], ids=["full", "lora"])
@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_shards_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, change: dict[str, Any]
):
    short = {"training": {"max_steps": 6}, "evaluate": {"every": 6, "max_new_tokens": 1}, "checkpoint": {"every": 2}}
    whole = train(write_recipe(tmp_path / "a", change, short, base=base, rows=rows))
    recipe = write_recipe(tmp_path / "b", change, short, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 2)
    in_shards = train_on_two(recipe, "--resume", "--parallel.processes", "2", "--parallel.mode", "sharded")
    assert_equal_runs(in_shards, whole)
    rewind(in_shards, 4, tmp_path / "c" / "run")
    assert len(list((tmp_path / "c" / "run" / "checkpoints" / "step-000004").glob("weights-*"))) == 2
    back = train(write_recipe(tmp_path / "c", change, short, base=base, rows=rows), "--resume")
    assert_equal_runs(back, whole)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, weights_of(back)[name], atol=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sharded_lora_equals_one_process(tmp_path: Path, base: Path, rows: Path, precision: str):
    short = {"training": {"max_steps": 4, "precision": precision}, "evaluate": TWO["evaluate"]}
    change = ({"adapter": {"kind": "lora", "rank": 4}}, short)
    alone = train(write_recipe(tmp_path / "one", *change, base=base, rows=rows))
    two = {"parallel": {"processes": 2, "mode": "sharded"}}
    run = train_on_two(write_recipe(tmp_path / "two", *change, two, base=base, rows=rows))
    if precision == "fp32":
        assert_equal_runs(run, alone)
    for name, weight in weights_of(alone).items():
        assert torch.allclose(weight, weights_of(run)[name], atol=1e-4 if precision == "fp32" else 0.02), name


def start(recipe: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "instil", "train", str(recipe), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def wait_for_steps(folder: Path, more_than: int = 0) -> int:
    for _ in range(1200):
        steps = len(losses_of(Run(folder, False, {})))
        if steps > more_than:
            return steps
        time.sleep(0.1)
    raise AssertionError("the run took no step in two minutes")


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("launcher", "signals", "stops_at_once"),
    [
        (None, [signal.SIGTERM, signal.SIGTERM], True),
        (None, [signal.SIGINT, signal.SIGTERM], False),
        (LAUNCHER, [signal.SIGTERM, signal.SIGTERM], False),
        (TORCHRUN, [signal.SIGTERM, signal.SIGTERM], False),
        (TORCHRUN, [signal.SIGINT, signal.SIGTERM], True),
    ],
)
def test_what_a_second_signal_is_depends_on_who_started_the_process(
    monkeypatch: pytest.MonkeyPatch, launcher: str | None, signals: list[int], stops_at_once: bool
):
    if launcher:
        monkeypatch.setenv(launcher, "1")
    said: list[str] = []
    request = StopRequest()
    request.save_first(said.append)
    request.take(signals[0], None)
    if stops_at_once:
        with pytest.raises(Stopped, match=signal.Signals(signals[1]).name):
            request.take(signals[1], None)
    else:
        request.take(signals[1], None)
    assert len(said) == 1


def test_what_is_handed_over_says_which_settings_were_set():
    """A resumed run keeps the saved value of the others."""
    recipe = Recipe.from_mapping({"parallel": {"processes": 2}, "optimizer": {"betas": [0.9, 0.98]}, "output": "a ü"})
    handed = Handed.from_json(Handed(recipe, resume=True, quiet=False).to_json())
    assert handed == Handed(recipe, resume=True, quiet=False)
    assert handed.recipe.model_dump(exclude_unset=True) == recipe.model_dump(exclude_unset=True)


NO_FIT = re.compile(r"step (\d+): a forward pass over (\d+) tokens .* Set training.micro_batch_tokens to (\d+)")


def test_a_process_ends_with_its_launcher():
    """The launcher that it is told of is not its parent, so that one is gone: it must not wait for it."""
    assert _environments(2, 1)[1][LAUNCHER] == str(os.getpid())
    gone = _environments(2, 1)[1] | {LAUNCHER: str(os.getpid() + 1)}
    assert subprocess.run([sys.executable, "-m", PROCESS], env=os.environ | gone).returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replicated", "sharded"])
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
        r"held-out loss: .* Set training.micro_batch_tokens to (\d+), then continue with --resume", said[1]
    )
    assert found, said
    assert (tmp_path / "run" / "checkpoints" / "step-000004").is_dir()
    resumed = train_on_two(recipe, "--resume", "--training.micro-batch-tokens", found[1])
    assert_equal_runs(resumed, reference)


NO_MEMORY = """
import os
import torch
from instil.training.step import take_step as step

def too_small(*given, **settings):
    raise torch.OutOfMemoryError("CUDA out of memory.")

if os.environ.get("RANK") == "1":
    step.forward = too_small
"""


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": {"name": "muon"}}, "optimizer.name: muon"),
        ({"optimizer": {"name": "adafactor"}}, "optimizer.name: adafactor"),
        ({"optimizer": {"name": "adamw_8bit"}}, "optimizer.name: adamw_8bit"),
        ({"model": {"quantize": "4bit"}}, "model.quantize: 4bit"),
        ({"model": {"quantize": "8bit"}}, "model.quantize: 8bit"),
        ({"training": {"precision": "pure_bf16"}}, "training.precision: pure_bf16"),
    ],
)
def test_what_is_not_built_for_shards_is_refused_by_name(change: dict[str, Any], said: str):
    recipe = Recipe.from_mapping({"training": {"precision": "fp32"}} | change)
    precision = choose_precision(recipe.training.precision, torch.device("cpu"))
    reason = why_no_shards(precision, optimizer=recipe.optimizer.name, quantize=recipe.model.quantize)
    assert reason is not None
    assert reason.startswith(said)


def test_fp16_is_not_sharded():
    fp16 = Precision("fp16", torch.float16, masters=True, scaled=True)
    assert "fp16" in str(why_no_shards(fp16, optimizer="adamw", quantize="none"))


def test_shards_that_are_asked_for_and_not_built_are_one_line(tmp_path: Path, base: Path, rows: Path):
    sharded = {"parallel": {"processes": 2, "mode": "sharded"}, "optimizer": {"name": "muon"}}
    codes, said = run_on_two(write_recipe(tmp_path, sharded, base=base, rows=rows))
    assert codes == [2, 2]
    assert all("error: optimizer.name: muon: not with sharded weights" in one for one in said)
    assert not (tmp_path / "run").exists()


def with_room_for(copies: float, base: Path, patch: pytest.MonkeyPatch) -> None:
    """Let this machine have memory for so many copies of a model's weights."""
    numbers, _ = room.count_weights(base)
    for module in (room, usage):
        patch.setattr(module, "free_bytes", lambda device: int(copies * numbers * 4))


def test_the_memory_of_a_machine_is_shared_by_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    recipe = write_recipe(tmp_path, {"parallel": {"mode": "replicated"}}, base=base, rows=rows)
    with_room_for(1.9, base, monkeypatch)
    codes, said = run_on_two(recipe)
    assert codes == [2, 2], said
    assert all("MB 2 times, once in each process, as float32" in one for one in said)
    assert all("or free some memory, or start fewer processes\n" in one for one in said)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_processes_load_and_shard_in_turn_where_the_model_fits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, adapter: str
):
    short: dict[str, Any] = {
        "adapter": {"kind": adapter}, "training": {"max_steps": 3}, "evaluate": {"every": 3, "max_new_tokens": 1}
    }  # fmt: skip
    alone = train(write_recipe(tmp_path / "one", short, base=base, rows=rows))
    load, cut = setup.load_trainable, setup.shard

    def note(what: str) -> None:
        with (tmp_path / "noted.txt").open("a") as file:
            file.write(f"{what} {os.environ['RANK']}\n")

    monkeypatch.setattr(setup, "load_trainable", lambda *given: note("load") or load(*given))
    monkeypatch.setattr(setup, "shard", lambda *given: cut(*given) or note("sharded"))
    with_room_for(1.9, base, monkeypatch)
    sharded = {"parallel": {"mode": "sharded"}}
    assert_equal_runs(train_on_two(write_recipe(tmp_path / "two", short, sharded, base=base, rows=rows)), alone)
    assert (tmp_path / "noted.txt").read_text().splitlines() == ["load 0", "sharded 0", "load 1", "sharded 1"]


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:5"), True),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
    ],
)  # fmt: skip
def test_a_broken_sum_is_told_from_a_mistake(error: RuntimeError, alone: bool):
    assert is_left_alone(error) == alone
    assert "pair.cc" not in last_line(error)


def test_the_advice_in_a_broken_sum_is_left_out():
    said = (
        "[/third_party/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:5. This is typically caused by a crash."
    )
    assert last_line(RuntimeError(said)) == "Connection closed by peer [127.0.0.1]:5"
