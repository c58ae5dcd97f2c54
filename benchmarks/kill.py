"""Kill a run at random moments, many times, and hold what comes out against a run that nobody touched.

    python benchmarks/kill.py [--kills 200] [--steps 60] [--seed 0]

Each start goes on with ``--resume`` and is killed with SIGKILL after a random part of the time that a whole run takes. After each
kill every checkpoint must be whole. A run that comes to its end must have the untouched run's weights, bit for bit, and nothing
temporary beside them; then the folder is removed and the killing begins anew. A start that fails by itself (a lock left behind, a
checkpoint of another run) ends the whole with its words. Runs are forks of one process that has everything imported, so 200 kills
take minutes. The last line is one JSON object.
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

from instil.errors import CheckpointError, InstilError
from instil.files import sha256_of
from instil.recipe import Recipe
from instil.training.checkpoints.checkpoint import open_checkpoint
from instil.training.checkpoints.retention import checkpoint_folders
from instil.training.records.run_folder import Run
from instil.training.run import train


def write_rows(path: Path) -> Path:
    """Write rows that are short, so that steps are."""
    rows = [
        {"messages": [{"role": "user", "content": f"{n}+1"}, {"role": "assistant", "content": str(n + 1)}]}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe_for(output: Path, rows: Path, steps: int) -> Recipe:
    """Give the recipe of a short run that saves after every step."""
    return Recipe.from_mapping(
        {
            "output": str(output),
            "threads": 1,
            "model": {"name": "demo"},
            "data": {"sources": [str(rows)], "store": str(rows.parent / "store")},
            "training": {"max_steps": steps, "batch_size": 4, "neftune_alpha": 5.0, "precision": "fp32"},
            "evaluate": {"every": max(1, steps // 4), "max_new_tokens": 4},
            "checkpoint": {"every": 1, "keep_last": 2},
        }
    )


def start(recipe: Recipe) -> int:
    """Go on with a run in a fork of this process; give its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            train(recipe, resume=True)
            status = 0
        except InstilError as error:
            print(f"\n{error}", file=sys.stderr)
        finally:
            os._exit(status)
    return child


@dataclass
class Count:
    """What was seen.

    Attributes:
        killed: Starts that were killed.
        finished: Runs that came to their end between the kills.
        different: Finished runs whose weights are not the untouched run's.
        broken: Checkpoints under their final name that did not open.
        left_over: Temporary files beside finished runs.
        resumed: Starts that found a checkpoint to go on from.
    """

    killed: int = 0
    finished: int = 0
    different: int = 0
    broken: int = 0
    left_over: int = 0
    resumed: int = 0

    def checkpoints(self, folder: Path) -> None:
        """Open every checkpoint that a kill has left under its final name."""
        found = checkpoint_folders(folder / "checkpoints")
        self.resumed += bool(found)
        for checkpoint in found:
            try:
                open_checkpoint(checkpoint)
            except CheckpointError as error:
                print(f"\n{error}", file=sys.stderr)
                self.broken += 1

    def finish(self, folder: Path, expected: str) -> None:
        """Hold a finished run against the untouched one."""
        self.finished += 1
        self.different += sha256_of(model_of(folder)) != expected
        self.left_over += sum(path.name != ".lock" for path in folder.rglob(".*"))


def wait_for(child: int, *, may_be_killed: bool) -> bool:
    """Wait for a start and say whether it was killed.

    Raises:
        SystemExit: If it failed by itself.
    """
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and may_be_killed:
        return True
    if status:
        raise SystemExit(f"a start failed by itself (status {status})")
    return False


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments, count = random.Random(args.seed), Count()
    with tempfile.TemporaryDirectory(prefix="instil-kill-") as scratch:
        untouched, folder = Path(scratch) / "untouched", Path(scratch) / "killed"
        rows = write_rows(Path(scratch) / "rows.jsonl")
        began = time.monotonic()
        wait_for(start(recipe_for(untouched, rows, args.steps)), may_be_killed=False)
        length = time.monotonic() - began
        recipe, expected = recipe_for(folder, rows, args.steps), sha256_of(model_of(untouched))
        while count.killed < args.kills:
            child = start(recipe)
            time.sleep(moments.uniform(0.0, 0.6) * length)
            os.kill(child, signal.SIGKILL)
            if wait_for(child, may_be_killed=True):
                count.killed += 1
                count.checkpoints(folder)
            else:
                count.finish(folder, expected)
                shutil.rmtree(folder)
            print(f"\r{count.killed} killed, {count.finished} finished", end="", file=sys.stderr, flush=True)
        wait_for(start(recipe), may_be_killed=False)
        count.finish(folder, expected)
    print(file=sys.stderr)
    print(json.dumps(asdict(count)))
    sys.exit(1 if count.different or count.broken or count.left_over else 0)


def model_of(folder: Path) -> Path:
    """Give the weights of a finished run."""
    return Run.open(folder).model_folder / "model.safetensors"


if __name__ == "__main__":
    main()
