"""Asks `probe` what can be imported, and survives whatever an import does to its process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.screen import work

PROBE = Path(__file__).with_name("probe.py")
LONGEST = 120.0
"""Seconds that one step may take; torch needs half a minute on a busy machine."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one step.

    Attributes:
        result: What it returned; None if it failed.
        error: Why it failed, in one line; None if it did not.
    """

    result: Any = None
    error: str | None = None


def ask(steps: Sequence[str], *, longest: float = LONGEST) -> dict[str, Answer]:
    """Return the answer of every step. A step that ends its process has an error, and the others go on in another one.

    Args:
        steps: Modules to import in this order, and ``machine``.
        longest: Seconds that one step may take.
    """
    found: dict[str, Answer] = {}
    with work("checking packages", total=len(steps), unit="packages") as bar:
        while left := [step for step in steps if step not in found]:
            for step, answer in _answers_of_one_process(left, longest):
                found[step] = answer
                bar.to(len(found))
    return found


def _answers_of_one_process(steps: Sequence[str], longest: float) -> Iterator[tuple[str, Answer]]:
    """Yield answers until the process ends; the last one says how, unless it answered every step."""
    try:
        # -P: a file of the working folder must not stand in for a package.
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROBE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )  # fmt: skip
    except OSError as error:
        yield from ((step, Answer(error=f"Python cannot be started ({error.strerror})")) for step in steps)
        return
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"path": sys.path, "steps": list(steps)}) + "\n")
        process.stdin.flush()
        late = threading.Event()
        for step in steps:
            timer = threading.Timer(longest, _stop, (process, late))
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line:
                yield step, Answer(error=_end_of(process, longest if late.is_set() else None))
                return
            answer = json.loads(line)
            yield step, Answer(answer["result"], answer["error"])


def _stop(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def _end_of(process: subprocess.Popen[str], longest: float | None) -> str:
    """Return how a process ended that did not answer."""
    if longest is not None:
        return f"it takes more than {longest:.0f} seconds"
    status = process.wait()
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"it ends Python ({how})"
