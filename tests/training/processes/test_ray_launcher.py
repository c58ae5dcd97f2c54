"""Claims about `parallel.launcher: ray`: the losses of one process, also where processes and nodes die on the way."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from instil.recipe.machine import ParallelSettings
from instil.training.processes import ray_worker
from instil.training.processes.launcher import PROCESS
from instil.training.processes.ray_worker import RESIZED, Mailbox, Post, ProcessDiedError

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


class Workers:
    """Ray Train's worker group with one worker, which is this process."""

    def __init__(self, status: Any) -> None:
        self.get_latest_poll_status = lambda: status

    def execute(self, function: Callable[[], None]) -> None:
        function()


SAVES = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(flush=True); signal.pause()"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (SimpleNamespace(finished=False, errors={}), 7),
        (SimpleNamespace(finished=False, errors={0: ProcessDiedError()}), None),
        (SimpleNamespace(finished=True, errors={}), None),
        (None, None),
    ],
)
def test_a_run_that_goes_on_saves_before_its_workers_are_replaced(
    no_ray: None, monkeypatch: pytest.MonkeyPatch, status: Any, code: int | None
) -> None:
    box = Box()
    with subprocess.Popen([sys.executable, "-c", SAVES], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        monkeypatch.setattr(ray_worker, "_children", [child])
        ray_worker.save_before_resize(Workers(status), box)
        assert child.poll() == code
        child.kill()
    assert box.box.take() == ([] if code is None else [RESIZED])


def post_of(folder: Path, *relative: str) -> Post:
    return Post("{}", str(folder), relative, None, "", None)


def test_the_folder_of_the_start_is_needed_only_for_relative_paths(tmp_path: Path) -> None:
    there, away = post_of(tmp_path, "output: runs/a"), post_of(tmp_path / "none", "output: runs/a")
    assert ray_worker._folder_on_this_node(there) == str(tmp_path)
    assert ray_worker._folder_on_this_node(away) is None
    assert "output: runs/a: a relative path, and the node" in ray_worker._no_folder(away)
    elsewhere = ray_worker._folder_on_this_node(post_of(tmp_path / "none"))
    assert elsewhere is not None
    assert Path(elsewhere).is_dir()


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


def write_recipe(folder: Path, *, every: int = 2, words: int = 0) -> None:
    """Write a recipe with relative paths: Ray's workers start in another folder.

    Args:
        folder: Where the run is started.
        every: Steps between two checkpoints.
        words: Words of each question, so that steps take their time.
    """
    rows = [{"question": f"{'one and ' * words}{n} + 1?", "answer": str(n + 1)} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": {"name": "demo"},
        "data": {"sources": ["rows.jsonl"], "store": "store", "heldout_share": 0},
        "training": {"max_steps": STEPS, "batch_size": 4, "precision": "fp32"},
        "checkpoint": {"every": every},
        "threads": 1,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


def environment() -> dict[str, str]:
    # Nodes are started by the tests too; Ray would run their workers at niceness 15.
    own = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    return {**os.environ, **own}


def start(folder: Path, *words: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "instil", "train", "recipe.yaml", *words]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=stdout, stderr=subprocess.PIPE, text=True)


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


NODES = """
import sys
from ray.cluster_utils import Cluster
size = dict(num_cpus=1, object_store_memory=100 << 20)
cluster = Cluster(initialize_head=True, connect=False, head_node_args={**size, "include_dashboard": False})
second = cluster.add_node(**size)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(second, allow_graceful=False)
    else:
        cluster.add_node(**size)
    print("done", flush=True)
"""
"""Holds two nodes of one processor. Lines on its input kill the second one, and add another."""


class Nodes:
    """A cluster that another process holds.

    Attributes:
        address: Its address.
    """

    def __init__(self) -> None:
        command, pipe = [sys.executable, "-c", NODES], subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True)
        self.address = self._answer()

    def tell(self, word: str) -> None:
        """Have a node killed or added."""
        assert self._process.stdin
        print(word, file=self._process.stdin, flush=True)
        assert self._answer() == "done"

    def children(self) -> list[psutil.Process]:
        """Return the processes of the run on its nodes."""
        return children_of_ray(self._process)

    def end(self) -> None:
        """Stop all nodes."""
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate()  # closes its pipes too

    def _answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    started = Nodes()
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    started.end()


@needs_ray
@pytest.mark.exhaustive
def test_as_nodes_go_and_come_the_losses_are_those_of_one(tmp_path: Path, nodes: Nodes) -> None:
    write_recipe(tmp_path, every=4, words=100)
    _, errors = (process := start(tmp_path, "--output", "alone")).communicate()
    assert process.returncode == 0, errors
    run, printed = tmp_path / "run", tmp_path / "printed"
    with printed.open("w") as output:
        process = start(tmp_path, *RAY, "--parallel.fewest-processes", "1", stdout=output)
        wait_for(lambda: num_steps(run) >= 5, process)
        nodes.tell("kill")
        wait_for(lambda: "resuming from" in printed.read_text(), process)
        before = num_steps(run)
        wait_for(lambda: num_steps(run) > before, process)
        (child,) = nodes.children()
        child.suspend()  # until Ray has seen the node, so that the run cannot end before
        num_alone = num_steps(run)
        nodes.tell("add")
        wait_for(lambda: RESIZED in printed.read_text(), process)
        child.resume()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    on_two, on_one, on_two_again = re.split("resuming from run/checkpoints/step-", printed.read_text())
    assert "processes  2, replicated" in on_two
    assert "processes  1" in on_two
    assert int(on_one[:6]) == 4  # the node was killed
    assert "processes  2, replicated" in on_one.partition(RESIZED)[2]
    assert int(on_two_again[:6]) >= num_alone > 4  # nothing was lost
    assert_losses(run, losses(tmp_path / "alone"))
