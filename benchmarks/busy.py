"""Compare what OpenMP threads do while they wait, on a quiet machine and beside busy processes.

    python benchmarks/busy.py [--settings none,passive,active] [--work demo,layers] [--precision fp32,bf16]
                              [--threads 1,2] [--busy 0,1,2] [--seconds 3] [--rounds 3]
                              [--data FILE] [--model MODEL] [--template chatml]

A case is a work and a precision. `demo` trains the demo's model with the demo's recipe (LoRA); `layers` trains all
weights of six layers in SmolLM2-135M's shape, two examples a step. `none` sets nothing, `passive` and `active` set
OMP_WAIT_POLICY, and `spin:N` sets GOMP_SPINCOUNT=N. One thread waits for nobody, so it has the first setting only.

For each setting and number of threads, a process trains a few steps and is stopped. Then they take turns of --seconds:
all of them beside the first number of busy processes, all beside the next, and again, --rounds times over. Only the
process whose turn it is runs. A turn counts the tokens of a second by the clock, from the end of its first step. Busy
processes compute in Python at the priority of the measured one.

Printed for each case and side: its quiet rate, and each rate as a share of its quiet one. The verdict names the
side that costs least: that whose smallest rate, as a share of the case's best rate beside as many busy processes,
is the largest.

Why: turns follow each other within seconds, so what else runs on the machine meets all settings alike. Compare ratios.
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, count, counts, inputs_of, words_of

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
BURNS = "while True: sum(range(1000))"
UNCOUNTED = 2
LAYERS = 6
MAX_STEPS = 100_000
Rates = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""Tokens a second: case → setting with its threads → busy processes → its turns."""


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


def recipe_of(case: Mapping[str, Any]) -> Any:
    """Return the recipe of a measurement."""
    from instil.demo.instructions import write_instructions
    from instil.demo.run import demo_recipe
    from instil.recipe import Recipe

    folder = Path(case["folder"])
    common = {
        "threads": case["threads"],
        "data": {"store": str(folder / f"store-{case['work']}"), "heldout_max": 4, "sources": case["sources"]},
        "training": {"max_steps": MAX_STEPS, "precision": case["precision"]},
        "evaluate": {"at_start": False, "every": MAX_STEPS, "max_new_tokens": 1},
        "checkpoint": {"every": MAX_STEPS},
    }
    if case["work"] == "demo":
        return demo_recipe(Path(case["run"]), write_instructions(folder / "data")).override(common)
    model = {"name": str(folder / "base"), "template": case["template"]}
    recipe = Recipe.from_mapping({"output": case["run"], "model": model, "adapter": {"kind": "none"}, **common})
    return recipe.override({"training": {"batch_size": 2}})


def measure(case: Mapping[str, Any]) -> None:
    """Train, and print the rate of a turn for each line of stdin. Runs in the process that is measured."""
    from instil import train
    from instil.training.events import StepTaken

    steps = (event for event in train(recipe_of(case), quiet=True, follow=True) if isinstance(event, StepTaken))
    for _ in range(UNCOUNTED):
        next(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(rate_of_turn(steps, seconds=case["seconds"]), flush=True)


def rate_of_turn(steps: Iterator[Any], *, seconds: float) -> float:
    """Return the tokens of a second, by the clock, behind the next step."""
    next(steps)
    start = time.monotonic()
    tokens = 0
    passed = 0.0
    while passed < seconds or not tokens:
        tokens += next(steps).tokens
        passed = time.monotonic() - start
    return tokens / passed


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes busy while the context is open."""
    started = [subprocess.Popen([sys.executable, "-S", "-c", BURNS]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


class Measured:
    """A process that trains with a setting while it is its turn, and is stopped between its turns."""

    def __init__(self, case: Mapping[str, Any], setting: str) -> None:
        words = [sys.executable, __file__, "--case", json.dumps(case)]
        environment = environment_of(setting, threads=case["threads"])
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"
        self.process.send_signal(signal.SIGSTOP)

    def turn(self) -> float:
        """Let it train for a turn, and return the rate."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        print(file=self.process.stdin, flush=True)
        rate = float(self._answer())
        self.process.send_signal(signal.SIGSTOP)
        return rate

    def end(self) -> None:
        """End it without a word: its run is nobody's."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(self.process.communicate()[1])
        return line.strip()


def setting_named(word: str) -> str:
    """Return a setting: the type of an option."""
    if word not in ("none", "passive", "active") and not re.fullmatch(r"spin:\d+", word):
        raise argparse.ArgumentTypeError(f"{word!r} is unknown. Expected none, passive, active or spin:N.")
    return word


def numbers_of_processes(text: str) -> list[int]:
    """Return numbers of busy processes from text with commas between them, 0 first: the type of an option."""
    if not re.fullmatch(r"0(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} does not start with 0. Expected numbers such as 0,1,2.")
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
    parser.add_argument("--work", type=words_of("demo", "layers"), default="demo,layers")
    parser.add_argument("--precision", type=words_of("fp32", "bf16"), default="fp32,bf16")
    parser.add_argument("--threads", type=counts, default="1,2")
    parser.add_argument("--busy", type=numbers_of_processes, default="0,1,2", help="numbers of busy processes")
    parser.add_argument("--seconds", type=float, default=3.0, help="training time of a turn")
    parser.add_argument("--rounds", type=count, default=3, help="turns of each setting beside each number")
    add_data_option(parser)
    add_model_options(parser, template="chatml", what="the work layers takes")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure every case with every setting."""
    args = build_parser().parse_args()
    if args.case is not None:
        measure(args.case)
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs = inputs_of(args, Path(folder))
        rates = measure_all(args, inputs=inputs, folder=Path(folder))
    for line in table(rates):
        print(line)
    print(verdict(rates))
    shares = {case: shares_of_quiet(settings) for case, settings in rates.items()}
    print(json.dumps({"rates": rates, "shares": shares, "costs_least": costs_least(rates), "inputs": inputs.record()}))


def measure_all(args: argparse.Namespace, *, inputs: Inputs, folder: Path) -> Rates:
    """Measure every case, and return all rates."""
    if "layers" in args.work:
        from shapes import write_shape

        write_shape("smollm2-135m", folder / "base", tokenizer=inputs.tokenizer, layers=LAYERS)
    rates: dict[str, dict[str, dict[str, list[float]]]] = {}
    for work, precision in product(args.work, args.precision):
        case = {
            "folder": str(folder),
            "work": work,
            "precision": precision,
            "sources": list(inputs.sources),
            "template": inputs.template,
            "seconds": args.seconds,
        }
        rates[f"{work} {precision}"] = measure_case(case, args)
    return rates


def sides_of(args: argparse.Namespace) -> dict[str, tuple[str, int]]:
    """Return the settings and threads that are compared, by name.

    Example:
        >>> list(sides_of(argparse.Namespace(threads=[1, 2], settings=["none", "passive"])))
        ['none 1', 'none 2', 'passive 2']
    """
    return {
        f"{setting} {threads}": (setting, threads)
        for threads in args.threads
        for setting in (args.settings if threads > 1 else args.settings[:1])
    }


def measure_case(case: Mapping[str, Any], args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Let the sides of a case take turns; print the rates as they come, and return them."""
    sides = sides_of(args)
    measured: dict[str, Measured] = {}
    rates: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    try:
        for side, (setting, threads) in sides.items():  # one after the other: they share the prepared data
            run = f"{case['folder']}/run-{len(measured)}"
            measured[side] = Measured({**case, "threads": threads, "run": run}, setting)
        for _, processes in product(range(args.rounds), args.busy):
            for side, process in measured.items():
                with busy(processes):
                    rate = process.turn()
                rates[side].setdefault(str(processes), []).append(rate)
                shown = f"{case['work']} {case['precision']}, {side}, {processes} busy: {rate:,.0f} tokens/s"
                print(shown, file=sys.stderr, flush=True)
    finally:
        for number, process in enumerate(measured.values()):
            process.end()
            shutil.rmtree(f"{case['folder']}/run-{number}", ignore_errors=True)
    return rates


def shares_of_quiet(settings: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Return the median rates beside busy processes over the same side's quiet one.

    Example:
        >>> shares_of_quiet({"none": {"0": [100.0], "2": [30.0]}})
        {'none': {'0': 1.0, '2': 0.3}}
    """
    return {
        setting: {
            processes: round(statistics.median(turns) / statistics.median(of_busy["0"]), 3)
            for processes, turns in of_busy.items()
        }
        for setting, of_busy in settings.items()
    }


def shares_of_best(rates: Rates) -> dict[str, float]:
    """Return the smallest median rate of each side, as a share of the best beside as many busy processes.

    Example:
        >>> quiet_or_not = {"none": {"0": [100.0], "2": [10.0]}, "passive": {"0": [90.0], "2": [25.0]}}
        >>> shares_of_best({"demo fp32": quiet_or_not})
        {'none': 0.4, 'passive': 0.9}
    """
    shares: dict[str, float] = {}
    for settings in rates.values():
        for processes in next(iter(settings.values())):
            medians = {setting: statistics.median(of_busy[processes]) for setting, of_busy in settings.items()}
            for setting, median in medians.items():
                share = round(median / max(medians.values()), 3)
                shares[setting] = min(share, shares.get(setting, share))
    return shares


def table(rates: Rates) -> Iterator[str]:
    """Yield the medians as a Markdown table: a line for each case and side."""
    busy_counts = list(next(iter(next(iter(rates.values())).values())))
    yield (
        "| case | setting, threads | quiet tokens/s | "
        + " | ".join(f"beside {number}" for number in busy_counts[1:])
        + " |"
    )
    yield "|---" * (len(busy_counts) + 2) + "|"
    for case, settings in rates.items():
        for setting, shares in shares_of_quiet(settings).items():
            quiet = statistics.median(settings[setting]["0"])
            busy_shares = " | ".join(f"{shares[number]:.0%}" for number in busy_counts[1:])
            yield f"| {case} | {setting} | {quiet:,.0f} | {busy_shares} |"


def costs_least(rates: Rates) -> str:
    """Return the side that costs least beside all numbers of busy processes."""
    shares = shares_of_best(rates)
    return max(shares, key=shares.__getitem__)


def verdict(rates: Rates) -> str:
    """Return which side costs least, in words, and what every side keeps of the best rate at its worst."""
    shown = ", ".join(f"{setting} {share:.0%}" for setting, share in shares_of_best(rates).items())
    return f"verdict: {costs_least(rates)} costs least; of the best rate, at its worst: {shown}"


if __name__ == "__main__":
    main()
