"""Kill parts of a run on Ray at random moments, and compare its result with that of an undisturbed run.

    python benchmarks/cluster_training.py [--kills 20] [--steps 24] [--seed 0]

Two nodes of one processor each, two processes (`parallel.launcher: ray`), a checkpoint after each step. Signal 9 ends a
process that trains, a worker of Ray above one, the second node, or the process that was started. A node is replaced by a
new one. The process that was started is started again with `--resume`; everything else Ray and the run repair alone.

Between two kills the run takes at least one new step. A finished run must have the undisturbed run's weights, bit for
bit, and each of its steps once with the same loss.

Takes the demo's model and rows of its own. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from cluster import Nodes, ray_variables
from kill import model_of, write_rows
from options import add_data_option, count, inputs_of

from instil.files import sha256_of
from instil.training.processes.launcher import PROCESS

OWN_ROWS = "60 short sums, so that steps are short"
KINDS = ("process", "worker", "node", "driver")
"""What is killed. A driver is the process that the user started."""
LONGEST_SECONDS = 900.0
"""Within which a run must take a step."""


class OneRun:
    """One run on the nodes, through all its starts.

    Attributes:
        folder: The run folder.
    """

    def __init__(self, recipe: Path, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._command = [sys.executable, "-m", "instil", "train", str(recipe), "--output", str(folder), "--resume"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the program)
        self.start()

    def start(self) -> None:
        """Start or resume it, as a user does."""
        self.driver = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def losses(self) -> dict[int, float]:
        """Return the losses that are written, by step.

        Raises:
            SystemExit: If a step is written twice.
        """
        try:
            lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        found: dict[int, float] = {}
        for line in lines:
            with contextlib.suppress(ValueError):  # a line that is being written
                record = json.loads(line)
                if "loss" in record:
                    if record["step"] in found:
                        raise SystemExit(f"step {record['step']} is written twice")
                    found[record["step"]] = record["loss"]
        return found

    def goes_on_to(self, step: int) -> bool:
        """Wait for a step, and return False if the run has ended by itself before.

        Raises:
            SystemExit: If it failed, or takes no step.
        """
        until = time.monotonic() + LONGEST_SECONDS
        while max(self.losses(), default=0) < step:
            if self.driver.poll() is not None:
                return self._ended()
            if time.monotonic() > until:
                raise SystemExit(f"no step {step} within {LONGEST_SECONDS:.0f} s\n{self.errors()}")
            time.sleep(0.05)
        return self.driver.poll() is None or self._ended()

    def finish(self) -> None:
        """Wait for its end."""
        self.driver.wait()
        self._ended()

    def _ended(self) -> bool:
        if self.driver.returncode:
            raise SystemExit(f"the run failed (exit code {self.driver.returncode})\n{self.errors()}")
        return False

    def errors(self) -> str:
        """Return the end of what all starts wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]


def below(process: psutil.Process, fits: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return the processes below one that fit."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if fits(child):
                    found.append(child)
    return found


def trains(process: psutil.Process) -> bool:
    """Return whether a process is one of the run."""
    return PROCESS in process.cmdline()


def kill(kind: str, run: OneRun, nodes: Nodes) -> bool:
    """Kill something, and return whether there was something to kill."""
    holder = psutil.Process(nodes.process.pid)
    if kind == "driver":
        run.driver.send_signal(signal.SIGKILL)
        run.driver.wait()
        while below(holder, trains):  # they end with their workers, and hold the run folder until then
            time.sleep(0.05)
        run.start()
        return True
    if kind == "node":
        nodes.replace()
        return True
    children = below(holder, trains)
    found = children if kind == "process" else [child.parent() for child in children]
    if not found:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        random.choice(found).kill()
    return True


def recipe_in(folder: Path, sources: list[dict[str, Any]], steps: int) -> Path:
    """Write the recipe of the runs."""
    recipe = {
        "model": {"name": "demo"},
        "data": {"sources": sources, "store": str(folder / "store"), "heldout_share": 0},
        "training": {"max_steps": steps, "batch_size": 4, "precision": "fp32"},
        "checkpoint": {"every": 1, "keep_last": 2},
        "parallel": {"launcher": "ray", "processes": 2, "restarts": 1000},
        "threads": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def kills(recipe: Path, folder: Path, nodes: Nodes, environment: dict[str, str], num_kills: int) -> dict[str, Any]:
    """Kill until there were as many kills as requested, and compare each run that ends."""
    undisturbed = OneRun(recipe, folder / "undisturbed", environment)
    undisturbed.finish()
    expected, losses = sha256_of(model_of(undisturbed.folder)), undisturbed.losses()
    killed = dict.fromkeys(KINDS, 0)
    finished = different = left_over = 0
    kinds: list[str] = []
    while sum(killed.values()) < num_kills:
        run = OneRun(recipe, folder / "killed", environment)
        while sum(killed.values()) < num_kills and run.goes_on_to(max(run.losses(), default=0) + 1):
            time.sleep(random.uniform(0.0, 1.0))
            kinds = kinds or random.sample(KINDS, len(KINDS))
            if run.driver.poll() is None and kill(kinds[0], run, nodes):
                killed[kinds.pop(0)] += 1
                print(f"killed {killed} at step {max(run.losses(), default=0)}", file=sys.stderr, flush=True)
        run.finish()
        finished += 1
        different += run.losses() != losses or sha256_of(model_of(run.folder)) != expected
        left_over += sum(path.name != ".lock" for path in run.folder.rglob(".*"))
        print(f"finished {finished}, different {different}", file=sys.stderr, flush=True)
        shutil.rmtree(run.folder)
    return {"killed": killed, "finished": finished, "different": different, "left_over": left_over}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=count, default=20)
    parser.add_argument("--steps", type=count, default=24)
    parser.add_argument("--seed", type=int, default=0)
    add_data_option(parser, default=OWN_ROWS)
    return parser


def main() -> None:
    """Kill and compare."""
    args = build_parser().parse_args()
    random.seed(args.seed)
    variables = ray_variables()
    with tempfile.TemporaryDirectory(prefix="instil-ray-") as scratch:
        folder = Path(scratch)
        inputs = inputs_of(args, folder, own_rows=OWN_ROWS)
        sources = list(inputs.sources) or [{"path": str(write_rows(folder / "rows.jsonl"))}]
        nodes = Nodes(variables)
        try:
            environment = {**variables, "RAY_ADDRESS": nodes.address}
            figures = kills(recipe_in(folder, sources, args.steps), folder, nodes, environment, args.kills)
        finally:
            nodes.process.kill()
    print(json.dumps({**figures, "inputs": inputs.record()}))
    sys.exit(1 if figures["different"] or figures["left_over"] else 0)


if __name__ == "__main__":
    main()
