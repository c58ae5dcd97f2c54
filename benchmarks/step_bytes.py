"""Count the bytes that the processes of a run send each other in a step.

    python benchmarks/step_bytes.py [--modes replicated,sharded] [--precision fp32,bf16] [--processes 2]

A run of `demo` is started in a network of its own (`unshare --net`, Linux, as root), where nothing but the run uses
loopback. Two runs of different length are compared, so what a start and an end send is not counted. Steps have one
micro-batch. The bytes stand beside those of the formula, for P trained numbers and N processes, over all processes:

- replicated: the sum of the gradients, 2 P (N - 1) numbers of 4 bytes;
- sharded: the weights gathered for the forward and for the backward pass, in the type of the arithmetic; those outside
  the blocks only once. The gradients are summed and scattered in fp32, for which gloo sends each number twice (NCCL
  sends it once).

Takes no data: rows are short sums. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kill import write_rows
from options import count, words_of

MODES = ("replicated", "sharded")
PRECISIONS = {"fp32": 4, "bf16": 2}
SHORT, LONG = 4, 12
"""Steps of the two runs."""
COUNTED = """
import subprocess, sys
from pathlib import Path
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
if done.returncode:
    sys.exit(done.stderr[-2000:])
(line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
print(line.split(":")[1].split()[0])
"""
"""Runs a command in a new network, and prints the bytes that passed its loopback."""


def bytes_of(recipe: dict[str, Any], folder: Path, steps: int) -> int:
    """Return the bytes that a run of so many steps sends."""
    recipe = {**recipe, "training": {**recipe["training"], "max_steps": steps}, "output": str(folder / "run")}
    path = folder / "recipe.yaml"
    shutil.rmtree(folder / "run", ignore_errors=True)
    path.write_text(json.dumps(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "instil", "train", str(path)]
    inside = ["unshare", "--net", sys.executable, "-c", COUNTED, *command]
    done = subprocess.run(inside, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout)


def case_of(mode: str, precision: str, processes: int, folder: Path) -> dict[str, Any]:
    """Measure one case."""
    recipe = {
        "model": {"name": "demo"},
        "data": {
            "sources": [str(write_rows(folder / "rows.jsonl"))],
            "store": str(folder / "store"),
            "heldout_share": 0,
        },
        "training": {"batch_size": 4, "precision": precision},
        "evaluate": {"every": 1000, "max_new_tokens": 1},
        "parallel": {"processes": processes, "mode": mode},
        "threads": 1,
    }
    a_step = (bytes_of(recipe, folder, LONG) - bytes_of(recipe, folder, SHORT)) / (LONG - SHORT)
    size = PRECISIONS[precision]
    blocks, rest = numbers_of(folder / "run")
    gathered = 0 if mode == "replicated" else size * (2 * blocks + rest)
    expected = (gathered + 2 * 4 * (blocks + rest)) * (processes - 1)
    return {
        "mode": mode,
        "precision": precision,
        "processes": processes,
        "mb_a_step": round(a_step / 1e6, 2),
        "formula_mb": round(expected / 1e6, 2),
        "ratio": round(a_step / expected, 3),
    }


def numbers_of(run: Path) -> tuple[int, int]:
    """Return how many numbers the blocks of a run's model have, and the rest of it; all of them train."""
    from safetensors import safe_open

    blocks = rest = 0
    with safe_open(run / "model" / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            size = math.prod(weights.get_slice(name).get_shape())
            blocks, rest = (blocks + size, rest) if ".layers." in name else (blocks, rest + size)
    return blocks, rest


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", type=words_of(*MODES), default="replicated,sharded")
    parser.add_argument("--precision", type=words_of(*PRECISIONS), default="fp32,bf16")
    parser.add_argument("--processes", type=count, default=2)
    return parser


def main() -> None:
    """Measure all cases."""
    args = build_parser().parse_args()
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for mode in args.modes:
            for precision in args.precision:
                cases.append(case_of(mode, precision, args.processes, Path(scratch)))
                print(cases[-1], file=sys.stderr, flush=True)
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
