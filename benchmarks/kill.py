"""Kill a run at random moments, many times, and hold what comes out against a run that nobody touched.

    python benchmarks/kill.py [--kills 200] [--steps 60] [--seed 0]

Each start goes on with ``--resume`` and is killed with SIGKILL after a random part of the time that a whole run takes. At the end
the weights must be the untouched run's, bit for bit, every checkpoint whole, and nothing temporary left. Runs are forks of one
process that has everything imported, so 200 kills take minutes. The last line is one JSON object.
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
from pathlib import Path

from instil.recipe import Recipe
from instil.training.checkpoint import checkpoint_folders, open_checkpoint
from instil.training.files import sha256_of
from instil.training.run import train
from instil.training.run_folder import Run


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
        finally:
            os._exit(status)
    return child


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="instil-kill-") as scratch:
        folder = Path(scratch)
        rows = write_rows(folder / "rows.jsonl")
        began = time.monotonic()
        if os.waitpid(start(recipe_for(folder / "untouched", rows, args.steps)), 0)[1]:
            raise SystemExit("the untouched run failed")
        length = time.monotonic() - began
        recipe, expected = recipe_for(folder / "killed", rows, args.steps), sha256_of(model_of(folder / "untouched"))
        killed = finished = different = 0
        while killed < args.kills:
            child = start(recipe)
            time.sleep(moments.uniform(0.0, 0.6) * length)
            os.kill(child, signal.SIGKILL)
            died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            killed += died
            if not died:
                finished += 1
                different += sha256_of(model_of(recipe_path(recipe))) != expected
                shutil.rmtree(recipe.output)
            print(f"\r{killed} killed, {finished} finished", end="", file=sys.stderr)
        if os.waitpid(start(recipe), 0)[1]:
            raise SystemExit("the last start failed")
        finished += 1
        different += sha256_of(model_of(recipe_path(recipe))) != expected
        for checkpoint in checkpoint_folders(recipe_path(recipe) / "checkpoints"):
            open_checkpoint(checkpoint)
        left = [str(path) for path in recipe_path(recipe).rglob(".*") if path.name != ".lock"]
    print()
    print(json.dumps({"killed": killed, "finished": finished, "different": different, "left_over": left}))
    sys.exit(1 if different or left else 0)


def recipe_path(recipe: Recipe) -> Path:
    """Give the run folder of a recipe."""
    return Path(recipe.output)


def model_of(folder: Path) -> Path:
    """Give the weights of a finished run."""
    return Run.open(folder).model_folder / "model.safetensors"


if __name__ == "__main__":
    main()
