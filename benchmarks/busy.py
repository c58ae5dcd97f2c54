"""Compare what OpenMP threads do while they wait, on a quiet machine and beside busy processes.

    python benchmarks/busy.py [--settings none,passive,active,spin:1000] [--busy 0,2] [--steps 20] [--threads 2]
        [--repeats 3]

A measurement trains the demo's model on the demo's data in fp32, in a process of its own, and counts the tokens of a
second of training. `none` sets nothing, `passive` and `active` set OMP_WAIT_POLICY, and `spin:N` sets
GOMP_SPINCOUNT=N. Busy processes compute in Python and start before the measurement.

Why: the settings take turns inside a repeat, so what else runs on the machine meets all of them alike. Compare ratios.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def environment_of(setting: str, *, threads: int) -> dict[str, str]:
    """Return the environment of a measurement.

    Args:
        setting: A word of `--settings`.
        threads: OpenMP threads.
    """
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    kept |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if setting.startswith("spin:"):
        return kept | {"GOMP_SPINCOUNT": setting.removeprefix("spin:")}
    # For `none`, the default of Intel's OpenMP: libgomp does not read it, and instil takes it for the user's own choice.
    return kept | ({"KMP_BLOCKTIME": "200"} if setting == "none" else {"OMP_WAIT_POLICY": setting.upper()})


def measure(folder: Path, *, steps: int, threads: int) -> float:
    """Train, and return the tokens of a second. Runs in the process that is measured."""
    from instil import train
    from instil.demo.instructions import write_instructions
    from instil.demo.run import demo_recipe

    recipe = demo_recipe(folder / "run", write_instructions(folder / "data"))
    changes = {
        "threads": threads,
        "data": {"store": str(folder / "store"), "heldout_max": 4},
        "training": {"max_steps": steps, "precision": "fp32"},
        "evaluate": {"at_start": False, "every": steps + 1, "max_new_tokens": 1},
        "checkpoint": {"every": steps + 1},
    }
    run = train(recipe.override(changes), quiet=True)
    return float(run.results["tokens_per_second"])


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many cores busy while the context is open."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def in_a_process(setting: str, arguments: argparse.Namespace, *, folder: Path) -> float:
    """Measure one setting once. All measurements share the prepared data in a folder."""
    words = [sys.executable, __file__, "--in", str(folder)]
    words += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
    environment = environment_of(setting, threads=arguments.threads)
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    shutil.rmtree(folder / "run", ignore_errors=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return float(result.stdout.splitlines()[-1])


def main() -> None:
    """Measure every setting beside every number of busy processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settings", default="none,passive,active,spin:1000,spin:100000")
    parser.add_argument("--busy", default="0,2")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(measure(arguments.folder, steps=arguments.steps, threads=arguments.threads))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure_all(arguments, Path(folder))))


def measure_all(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Measure, print the medians, and return all rates by number of busy processes and setting."""
    settings = arguments.settings.split(",")
    rates: dict[str, dict[str, list[float]]] = {}
    for processes in arguments.busy.split(","):
        rates[processes] = {setting: [] for setting in settings}
        with busy(int(processes)):
            for _ in range(arguments.repeats):
                for setting in settings:
                    rate = in_a_process(setting, arguments, folder=folder)
                    rates[processes][setting].append(rate)
                    print(f"{processes} busy, {setting}: {rate:,.0f}", file=sys.stderr, flush=True)
        for setting, values in rates[processes].items():
            shown = ", ".join(f"{value:,.0f}" for value in values)
            print(f"{processes} busy, {setting}: {statistics.median(values):,.0f} tokens/s ({shown})", flush=True)
    return rates


if __name__ == "__main__":
    main()
