"""Compare what OpenMP threads do while they wait, on a quiet machine and beside busy processes.

    python benchmarks/busy.py [--settings none,passive,active] [--busy 0,2] [--seconds 6] [--threads 2] [--repeats 3]
                              [--data FILE]

A measurement trains the demo's model with the demo's recipe (LoRA, fp32), in a process of its own, and counts the
tokens of a second of training. It ends after --seconds of training, and the first two steps are not counted. `none`
sets nothing, `passive` and `active` set OMP_WAIT_POLICY, and `spin:N` sets GOMP_SPINCOUNT=N. Busy processes compute in
Python and start before the measurement.

The ratios are tokens a second over those of `none`. The verdict names the setting that costs least in both: that whose
smallest rate, as a share of the best rate beside as many busy processes, is the largest.

Why: the settings take turns inside a repeat, so what else runs on the machine meets all of them alike. Compare ratios.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, count, inputs_of

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
OWN_ROWS = "the demo's own"
UNCOUNTED = 2
MAX_STEPS = 100_000
Rates = Mapping[str, Mapping[str, Sequence[float]]]
"""Tokens a second: busy processes → setting → its measurements."""


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


def measure(folder: Path, *, sources: list[dict[str, Any]], seconds: float, threads: int) -> float:
    """Train, and return the tokens of a second. Runs in the process that is measured."""
    from instil import train
    from instil.demo.instructions import write_instructions
    from instil.demo.run import demo_recipe
    from instil.training.events import StepTaken

    recipe = demo_recipe(folder / "run", write_instructions(folder / "data"))
    changes = {
        "threads": threads,
        "data": {"store": str(folder / "store"), "heldout_max": 4} | ({"sources": sources} if sources else {}),
        "training": {"max_steps": MAX_STEPS, "precision": "fp32"},
        "evaluate": {"at_start": False, "every": MAX_STEPS, "max_new_tokens": 1},
        "checkpoint": {"every": MAX_STEPS},
    }
    steps: list[StepTaken] = []
    end = float("inf")
    for event in train(recipe.override(changes), quiet=True, follow=True):
        if isinstance(event, StepTaken):
            steps.append(event)
        if len(steps) == UNCOUNTED:
            end = min(end, time.monotonic() + seconds)
        if len(steps) > UNCOUNTED and time.monotonic() > end:
            break
    counted = steps[UNCOUNTED:]
    return sum(step.tokens for step in counted) / sum(step.seconds for step in counted)


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


def in_a_process(setting: str, args: argparse.Namespace, *, inputs: Inputs, folder: Path) -> float:
    """Measure one setting once. All measurements share the prepared data in a folder."""
    words = [sys.executable, __file__, "--in", str(folder), "--sources", json.dumps(inputs.sources)]
    words += ["--seconds", str(args.seconds), "--threads", str(args.threads)]
    environment = environment_of(setting, threads=args.threads)
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    shutil.rmtree(folder / "run", ignore_errors=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return float(result.stdout.splitlines()[-1])


def setting_named(word: str) -> str:
    """Return a setting: the type of an option."""
    if word not in ("none", "passive", "active") and not re.fullmatch(r"spin:\d+", word):
        raise argparse.ArgumentTypeError(f"{word!r} is unknown. Expected none, passive, active or spin:N.")
    return word


def numbers_of_processes(text: str) -> list[int]:
    """Return numbers of busy processes from text with commas between them: the type of an option."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers. Expected numbers such as 0,2.")
    return [int(part) for part in text.split(",")]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--settings",
        type=lambda text: [setting_named(word) for word in text.split(",")],
        default="none,passive,active",
        help="none, passive, active, spin:N",
    )
    parser.add_argument("--busy", type=numbers_of_processes, default="0,2", help="numbers of busy processes")
    parser.add_argument("--seconds", type=float, default=6.0, help="training time of a measurement")
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--repeats", type=count, default=3)
    add_data_option(parser, default=OWN_ROWS)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sources", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure every setting beside every number of busy processes."""
    args = build_parser().parse_args()
    if args.folder is not None:
        print(measure(args.folder, sources=args.sources, seconds=args.seconds, threads=args.threads))
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs = inputs_of(args, Path(folder), own_rows=OWN_ROWS)
        rates = measure_all(args, inputs=inputs, folder=Path(folder))
    ratios = ratios_of(rates)
    for processes, settings in ratios.items():
        shown = ", ".join(f"{setting} {ratio:.2f}" for setting, ratio in settings.items())
        print(f"{processes} busy, over {args.settings[0]}: {shown}")
    print(verdict(rates))
    print(json.dumps({"rates": rates, "ratios": ratios, "costs_least": costs_least(rates), "inputs": inputs.record()}))


def measure_all(args: argparse.Namespace, *, inputs: Inputs, folder: Path) -> Rates:
    """Measure, print the medians, and return all rates."""
    rates: dict[str, dict[str, list[float]]] = {}
    for processes in args.busy:
        of_settings: dict[str, list[float]] = {setting: [] for setting in args.settings}
        rates[str(processes)] = of_settings
        with busy(processes):
            for _ in range(args.repeats):
                for setting in args.settings:
                    rate = in_a_process(setting, args, inputs=inputs, folder=folder)
                    of_settings[setting].append(rate)
                    print(f"{processes} busy, {setting}: {rate:,.0f}", file=sys.stderr, flush=True)
        for setting, values in of_settings.items():
            shown = ", ".join(f"{value:,.0f}" for value in values)
            print(f"{processes} busy, {setting}: {statistics.median(values):,.0f} tokens/s ({shown})", flush=True)
    return rates


def ratios_of(rates: Rates) -> dict[str, dict[str, float]]:
    """Return the median rates over those of the first setting.

    Example:
        >>> ratios_of({"2": {"none": [100.0], "passive": [250.0]}})
        {'2': {'none': 1.0, 'passive': 2.5}}
    """
    ratios = {}
    for processes, settings in rates.items():
        medians = {setting: statistics.median(values) for setting, values in settings.items()}
        first = next(iter(medians.values()))
        ratios[processes] = {setting: round(median / first, 3) for setting, median in medians.items()}
    return ratios


def shares_of_best(rates: Rates) -> dict[str, float]:
    """Return the smallest rate of each setting, as a share of the best rate beside as many busy processes.

    Example:
        >>> shares_of_best({"0": {"none": [100.0], "passive": [90.0]}, "2": {"none": [10.0], "passive": [25.0]}})
        {'none': 0.4, 'passive': 0.9}
    """
    shares: dict[str, float] = {}
    for settings in rates.values():
        medians = {setting: statistics.median(values) for setting, values in settings.items()}
        for setting, median in medians.items():
            share = round(median / max(medians.values()), 3)
            shares[setting] = min(share, shares.get(setting, share))
    return shares


def costs_least(rates: Rates) -> str:
    """Return the setting that costs least beside all numbers of busy processes."""
    shares = shares_of_best(rates)
    return max(shares, key=shares.__getitem__)


def verdict(rates: Rates) -> str:
    """Return which setting costs least, in words, and what every setting keeps of the best rate at its worst."""
    shown = ", ".join(f"{setting} {share:.0%}" for setting, share in shares_of_best(rates).items())
    least = costs_least(rates)
    choice = "instil's own choice" if least == "passive" else "instil sets passive"
    return f"verdict: {least} costs least ({choice}); of the best rate, at its worst: {shown}"


if __name__ == "__main__":
    main()
