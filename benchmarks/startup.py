"""Measure how long a command takes until a person sees its first result, on a pseudo-terminal.

    python benchmarks/startup.py [--run runs/demo] [--rows 1000] [--prompts 1000] [--repeats 3] [--only chat,inspect]

Takes no data: it makes rows with a question and a short answer. Without --run it trains the demo's model for two steps.

Each repeat runs everything once, in turns, and `python -c "import torch"` beside it, so that what the machine does
meanwhile meets all of them. Figures are the middle of the repeats, in seconds and as multiples of importing torch:

    torch       python -c "import torch", to its end
    chat        instil chat RUN, to its first prompt
    answer      the same, to the first piece of the answer to a line that is typed at the prompt
    inspect     instil inspect, to the first line of its report; what it keeps of a model is there already
    report      the same, to its end
    train       instil train, to the line of the first step
    evaluate    instil evaluate demo, to its end

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from options import count, words_of

COLUMNS = 100
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\[\?2004[hl]")
INSTIL = [sys.executable, "-m", "instil"]
ALL = ("torch", "chat", "inspect", "train", "evaluate")


def seconds_until(
    command: list[str], patterns: list[str], *, folder: Path, keys: str = "", stop: bool = True
) -> list[float]:
    """Return the seconds until each pattern has appeared, one after the other; and until the end if `stop` is false.

    Args:
        command: The command, whose standard streams are a terminal.
        patterns: Regular expressions, searched in what was printed so far.
        folder: Where it runs.
        keys: What is typed once the first pattern is there.
        stop: End the command at the last pattern.
    """
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS)})
    seen, times = b"", []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux reports a closed terminal so
            break
        if not data:
            break
        seen += data
        while len(times) < len(patterns) and re.search(patterns[len(times)].encode(), _CONTROL.sub(b"", seen)):
            times.append(time.perf_counter() - begin)
            if len(times) == 1 and keys:
                os.write(terminal, keys.encode())
        if stop and len(times) == len(patterns):
            os.kill(pid, signal.SIGKILL)
            break
    os.waitpid(pid, 0)
    os.close(terminal)
    if len(times) < len(patterns):
        raise SystemExit(f"{' '.join(command)}: {patterns[len(times)]!r} did not appear in:\n{seen.decode()[-2000:]}")
    return times if stop else [*times, time.perf_counter() - begin]


def write_rows(path: Path, num_rows: int) -> None:
    """Write rows with a question and a short answer."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_rows):
            a, b = draw.randint(1, 99), draw.randint(1, 99)
            file.write(json.dumps({"question": f"What is {a} plus {b}?", "answer": str(a + b)}) + "\n")


def measures(folder: Path, run: Path, *, rows: int, prompts: int) -> dict[str, Callable[[], dict[str, float]]]:
    """Return what is measured by name: each runs one command and returns its figures."""
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "prompts.jsonl", prompts)
    numbers = iter(range(10_000))

    def torch() -> dict[str, float]:
        (end,) = seconds_until([sys.executable, "-c", "import torch"], [], folder=folder, stop=False)
        return {"torch": end}

    def chat() -> dict[str, float]:
        # The typed line ends where Enter moves the screen on; what follows the model's name is the answer.
        found = ["you  ", rf"{re.escape(str(run))}  \S"]
        prompt, answer = seconds_until([*INSTIL, "chat", str(run)], found, folder=folder, keys="Hello there?\n")
        return {"chat": prompt, "answer": answer}

    def inspect() -> dict[str, float]:
        command = [*INSTIL, "inspect", "rows.jsonl"]
        first, end = seconds_until(command, [r"model demo"], folder=folder, stop=False)
        return {"inspect": first, "report": end}

    def train() -> dict[str, float]:
        command = [*INSTIL, "train", "rows.jsonl", "--model", "demo", "--output", f"run{next(numbers)}"]
        (first,) = seconds_until(command, [r"\D1/\d+  loss"], folder=folder)
        return {"train": first}

    def evaluate() -> dict[str, float]:
        command = [*INSTIL, "evaluate", "demo", "--data", "prompts.jsonl", "--out", f"out{next(numbers)}"]
        return {"evaluate": seconds_until(command, ["exact_match"], folder=folder, stop=False)[-1]}

    return {"torch": torch, "chat": chat, "inspect": inspect, "train": train, "evaluate": evaluate}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run or model folder to talk to")
    parser.add_argument("--rows", type=count, default=1000, help="rows to inspect and to train on")
    parser.add_argument("--prompts", type=count, default=1000, help="prompts to evaluate")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument(
        "--only", type=words_of(*ALL[1:]), default=",".join(ALL[1:]), help="what to measure, of " + ", ".join(ALL[1:])
    )
    return parser


def main() -> None:
    """Measure and print."""
    options = build_parser().parse_args()
    names = ["torch", *options.only]
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="instil-startup-") as temporary:
        folder = Path(temporary)
        run = options.run
        if run is None:
            write_rows(folder / "few.jsonl", 40)
            run = folder / "run"
            command = [
                *INSTIL,
                "train",
                "few.jsonl",
                "--model",
                "demo",
                "--output",
                str(run),
                "--training.max-steps",
                "2",
                "--quiet",
            ]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        parts = measures(folder, run.absolute(), rows=options.rows, prompts=options.prompts)
        if "inspect" in names:
            parts["inspect"]()  # what is kept of the model; read files are in the system's cache as well
        for _ in range(options.repeats):
            for name in names:
                for figure, seconds in parts[name]().items():
                    figures.setdefault(figure, []).append(seconds)
    middle = {name: statistics.median(times) for name, times in figures.items()}
    for name, times in figures.items():
        each = ", ".join(f"{seconds:.2f}" for seconds in times)
        print(f"{name:10} {middle[name]:7.2f} s  {middle[name] / middle['torch']:6.2f} x torch   ({each})")
    print(json.dumps({name: round(seconds, 3) for name, seconds in middle.items()}))


if __name__ == "__main__":
    main()
