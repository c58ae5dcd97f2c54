"""Claims about `parallel.launcher: ray`: the losses of one process, also where processes and nodes die on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from instil.recipe.machine import ParallelSettings
from instil.training.processes import ray_worker
from instil.training.processes.launcher import PROCESS
from instil.training.processes.ray_worker import Mailbox, ProcessDiedError

ROOT = Path(__file__).resolve().parents[3]
STEPS = 14
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra ray)")


class Box:
    """A mailbox whose calls are answered at once, as `ray.get` of the actor's would."""

    def __init__(self) -> None:
        self.box = Mailbox()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.box, name))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(get=lambda value: value)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(ray_worker, "LAST_WORDS_SECONDS", 0)


LEFT = "error: process 0 of 2: another process has ended (closed)"
LOCKED = "error: runs/a: another run (process 7) is writing to it. Expected one run per folder."


@pytest.mark.parametrize(
    ("code", "lines", "starts", "cause"),
    [
        (0, [], 1, None),
        (2, ["error: rows.jsonl:3: is wrong"], 1, "rows.jsonl:3: is wrong"),
        (1, ["Traceback", "KeyError: 'x'"], 1, "ended with exit code 1 (KeyError: 'x')"),
        (2, [LOCKED], 1, "is writing to it"),
    ],
)
def test_an_error_that_would_come_again_ends_the_run(
    no_ray: None, code: int, lines: list[str], starts: int, cause: str | None
) -> None:
    box = Box()
    ray_worker._report_end(code, lines, box, rank=0, stop_signal=None, starts=starts)
    assert (box.box.cause() is None) if cause is None else cause in str(box.box.cause())
    assert not box.box.was_stopped()


@pytest.mark.parametrize(
    ("code", "lines", "starts", "words"),
    [
        (-9, [], 1, "process 1 on .* was killed by SIGKILL"),
        (2, [LEFT], 1, "process 1 on .* ended with exit code 2"),
        (2, [LOCKED], 2, "ended with exit code 2"),
    ],
)
def test_a_process_that_died_without_a_cause_lets_the_run_go_on(
    no_ray: None, code: int, lines: list[str], starts: int, words: str
) -> None:
    box = Box()
    with pytest.raises(ProcessDiedError, match=words):
        ray_worker._report_end(code, lines, box, rank=1, stop_signal=None, starts=starts)
    assert box.box.cause() is None


def test_one_that_was_left_alone_by_a_named_cause_says_nothing(no_ray: None) -> None:
    box = Box()
    box.box.fail("the cause")
    ray_worker._report_end(2, [LEFT], box, rank=1, stop_signal=None, starts=1)
    assert box.box.cause() == "the cause"


def test_a_stop_before_the_first_step_is_one(no_ray: None) -> None:
    box = Box()
    ray_worker._report_end(143, ["error: stopped by SIGTERM"], box, rank=0, stop_signal=15, starts=1)
    assert box.box.was_stopped()
    assert box.box.cause() is None


def test_the_interface_is_that_of_the_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    for name in names:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(util=util))
    ray_worker.find_interface()
    assert [os.environ[name] for name in names] == ["lo", "lo"]
    util.get_node_ip_address = lambda: "203.0.113.9"  # no interface of this machine
    os.environ["GLOO_SOCKET_IFNAME"] = "mine"
    ray_worker.find_interface()
    assert [os.environ[name] for name in names] == ["mine", "lo"]


def test_how_many_processes_a_recipe_allows() -> None:
    assert [ParallelSettings(processes=4).allows(size) for size in (1, 2, 4)] == [False, False, True]
    assert ParallelSettings().allows(7)  # torchrun decides
    elastic = ParallelSettings(processes=4, launcher="ray", fewest_processes=2)
    assert [elastic.allows(size) for size in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
    with pytest.raises(ValidationError, match="needs launcher: ray"):
        ParallelSettings(processes=4, fewest_processes=2)
    with pytest.raises(ValidationError, match="more than processes"):
        ParallelSettings(processes=1, launcher="ray", fewest_processes=2)


def write_recipe(folder: Path) -> None:
    """Write a recipe with relative paths: Ray's workers start in another folder."""
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": {"name": "demo"},
        "data": {"sources": ["rows.jsonl"], "store": "store", "heldout_share": 0},
        "training": {"max_steps": STEPS, "batch_size": 4, "precision": "fp32"},
        "checkpoint": {"every": 2},
        "threads": 1,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


def environment() -> dict[str, str]:
    # Nodes are started by the tests too; Ray would run their workers at niceness 15.
    own = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    return {**os.environ, **own}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "instil", "train", "recipe.yaml", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True)


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def num_steps(run: Path) -> int:
    try:
        return len(losses(run))
    except (OSError, ValueError):
        return 0


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    write_recipe(folder)
    _, errors = (process := start(folder, "--output", "run")).communicate()
    assert process.returncode == 0, errors
    return losses(folder / "run")


def assert_losses(run: Path, expected: dict[int, float]) -> None:
    found = losses(run)
    assert list(found) == list(expected) == list(range(1, STEPS + 1))
    assert max(abs(found[step] - expected[step]) for step in expected) <= 1e-5
    assert (run / "results.json").exists()


def children_of_ray(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children(recursive=True) if PROCESS in one.cmdline()]


RAY = ("--parallel.launcher", "ray", "--parallel.processes", "2", "--output", "run")


@needs_ray
@pytest.mark.exhaustive
def test_two_processes_of_which_one_is_killed_end_as_one_does(tmp_path: Path, alone: dict[int, float]) -> None:
    write_recipe(tmp_path)
    process = start(tmp_path, *RAY, "--parallel.restarts", "0")
    wait_for(lambda: num_steps(tmp_path / "run") >= 3, process)
    children_of_ray(process)[-1].kill()
    output, errors = process.communicate()
    assert process.returncode == 2
    (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
    assert re.match(r"error: process \d on \S+ was killed by SIGKILL, and parallel.restarts is 0. .* --resume", line)
    process = start(tmp_path, *RAY, "--resume")
    wait_for(lambda: num_steps(tmp_path / "run") >= 7, process)
    children_of_ray(process)[-1].kill()
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "resuming from run/checkpoints/step-" in output
    assert_losses(tmp_path / "run", alone)
    assert not list(tmp_path.glob(".tmp-*"))


@needs_ray
@pytest.mark.exhaustive
def test_sigterm_saves_and_a_wrong_row_is_not_tried_again(tmp_path: Path, alone: dict[int, float]) -> None:
    write_recipe(tmp_path)
    process = start(tmp_path, *RAY)
    wait_for(lambda: num_steps(tmp_path / "run") >= 3, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "saved in run/checkpoints/step-" in output
    output, errors = (process := start(tmp_path, *RAY, "--resume")).communicate()
    assert process.returncode == 0, errors
    assert_losses(tmp_path / "run", alone)

    (tmp_path / "rows.jsonl").write_text('{"neither": "format"}\n')
    output, errors = (process := start(tmp_path, *RAY[:-1], "other")).communicate()
    assert process.returncode == 2
    assert next(line for line in errors.splitlines() if line.startswith("error: ")).startswith("error: rows.jsonl:1: ")
    assert not (tmp_path / "other").exists()


@needs_ray
@pytest.mark.exhaustive
def test_on_fewer_nodes_the_losses_are_those_of_one(tmp_path: Path, alone: dict[int, float]) -> None:
    write_recipe(tmp_path)
    words = ["train", "recipe.yaml", *RAY, "--parallel.fewest-processes", "1"]
    lines = (
        "import json, threading, time, sys",
        "from pathlib import Path",
        "from ray.cluster_utils import Cluster",
        "size = dict(num_cpus=1, object_store_memory=100 << 20)",
        "cluster = Cluster(initialize_head=True, connect=True, head_node_args={**size, 'include_dashboard': False})",
        "second = cluster.add_node(**size)",
        "cluster.wait_for_nodes()",
        "def steps():",
        "    try: return sum('\"loss\"' in line for line in Path('run/metrics.jsonl').read_text().splitlines())",
        "    except OSError: return 0",
        "def kill():",
        "    while steps() < 5: time.sleep(0.05)",
        "    cluster.remove_node(second, allow_graceful=False)",
        "    print('removed at', steps(), flush=True)",
        "threading.Thread(target=kill, daemon=True).start()",
        "from instil.cli.main import main",
        f"main({words!r})",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "removed at" in done.stdout
    assert "processes  2, replicated" in done.stdout
    assert "resuming from run/checkpoints/step-" in done.stdout
    assert_losses(tmp_path / "run", alone)
