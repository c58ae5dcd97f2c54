"""Kill a run at random moments, many times, and compare its result with that of an undisturbed run.

    python benchmarks/kill.py [--kills 200] [--steps 60] [--seed 0] [--data FILE]

Each start resumes the run. SIGKILL ends it after a random part of the time that a complete run takes. After each kill,
every checkpoint must open. A finished run must have the undisturbed run's weights, bit for bit, and no temporary file.
Then its folder is removed, and the next run begins. A start that fails by itself (a lock left behind, a checkpoint of
another run) ends the benchmark with its message.

Runs are forks of one process that has imported everything, so 200 kills take minutes. The last line of the output is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from options import add_data_option, count, inputs_of

from instil.errors import CheckpointError, InstilError
from instil.files import sha256_of
from instil.recipe import Recipe
from instil.training.checkpoints.checkpoint import open_checkpoint
from instil.training.checkpoints.retention import checkpoint_folders
from instil.training.records.run_folder import Run
from instil.training.run import train

OWN_ROWS = "60 short sums, so that steps are short"


def write_rows(path: Path) -> Path:
    """Write the benchmark's own rows."""
    rows = [
        {"messages": [{"role": "user", "content": f"{n}+1"}, {"role": "assistant", "content": str(n + 1)}]}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe_for(output: Path, sources: list[dict[str, Any]], steps: int) -> Recipe:
    """Return the recipe of a short run that saves after each step."""
    return Recipe.from_mapping(
        {
            "output": str(output),
            "threads": 1,
            "model": {"name": "demo"},
            "data": {"sources": sources, "store": str(output.parent / "store")},
            "training": {"max_steps": steps, "batch_size": 4, "neftune_alpha": 5.0, "precision": "fp32"},
            "evaluate": {"every": max(1, steps // 4), "max_new_tokens": 4},
            "checkpoint": {"every": 1, "keep_last": 2},
        }
    )


def start(recipe: Recipe) -> int:
    """Start or resume a run in a fork of this process; return its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            train(recipe, resume=True)
            status = 0
        except InstilError as error:
            print(f"\n{error}", file=sys.stderr)
        finally:
            os._exit(status)
    return child


@dataclass
class Count:
    """The counts of the benchmark.

    Attributes:
        killed: Starts that were killed.
        finished: Runs that finished between the kills.
        different: Finished runs whose weights differ from the undisturbed run's.
        broken: Checkpoints under their final name that did not open.
        left_over: Temporary files beside finished runs.
        resumed: Kills that left a checkpoint to resume from.
    """

    killed: int = 0
    finished: int = 0
    different: int = 0
    broken: int = 0
    left_over: int = 0
    resumed: int = 0

    def checkpoints(self, folder: Path) -> None:
        """Open each checkpoint that a kill has left under its final name."""
        checkpoints = checkpoint_folders(folder / "checkpoints")
        self.resumed += bool(checkpoints)
        for checkpoint in checkpoints:
            try:
                open_checkpoint(checkpoint)
            except CheckpointError as error:
                print(f"\n{error}", file=sys.stderr)
                self.broken += 1

    def finish(self, folder: Path, expected: str) -> None:
        """Compare a finished run with the undisturbed one."""
        self.finished += 1
        self.different += sha256_of(model_of(folder)) != expected
        self.left_over += sum(path.name != ".lock" for path in folder.rglob(".*"))


def wait_for(child: int, *, may_be_killed: bool) -> bool:
    """Wait until a start has ended; return whether it was killed.

    Raises:
        SystemExit: If the start failed by itself.
    """
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and may_be_killed:
        return True
    if status:
        raise SystemExit(f"a start failed by itself (status {status})")
    return False


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=count, default=200)
    parser.add_argument("--steps", type=count, default=60)
    parser.add_argument("--seed", type=int, default=0)
    add_data_option(parser, default=OWN_ROWS)
    return parser


def main() -> None:
    """Kill, resume, compare."""
    args = build_parser().parse_args()
    moments, counted = random.Random(args.seed), Count()
    with tempfile.TemporaryDirectory(prefix="instil-kill-") as scratch:
        undisturbed, folder = Path(scratch) / "undisturbed", Path(scratch) / "killed"
        inputs = inputs_of(args, Path(scratch), own_rows=OWN_ROWS)
        sources = list(inputs.sources) or [{"path": str(write_rows(Path(scratch) / "rows.jsonl"))}]
        started = time.monotonic()
        wait_for(start(recipe_for(undisturbed, sources, args.steps)), may_be_killed=False)
        length = time.monotonic() - started
        recipe, expected = recipe_for(folder, sources, args.steps), sha256_of(model_of(undisturbed))
        while counted.killed < args.kills:
            child = start(recipe)
            time.sleep(moments.uniform(0.0, 0.6) * length)
            os.kill(child, signal.SIGKILL)
            if wait_for(child, may_be_killed=True):
                counted.killed += 1
                counted.checkpoints(folder)
            else:
                counted.finish(folder, expected)
                shutil.rmtree(folder)
            print(f"\r{counted.killed} killed, {counted.finished} finished", end="", file=sys.stderr, flush=True)
        wait_for(start(recipe), may_be_killed=False)
        counted.finish(folder, expected)
    print(file=sys.stderr)
    print(json.dumps({**asdict(counted), "inputs": inputs.record()}))
    sys.exit(1 if counted.different or counted.broken or counted.left_over else 0)


def model_of(folder: Path) -> Path:
    """Return the path of the weights of a finished run."""
    return Run.open(folder).model_folder / "model.safetensors"


if __name__ == "__main__":
    main()
