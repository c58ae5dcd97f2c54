"""The tasks that fit a file of the workspace, asked of a process and kept while the file stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The tasks that fit a file.

    Attributes:
        tasks: Their names.
        problem: Why the file cannot be measured on; or empty.
    """

    tasks: tuple[str, ...]
    problem: str = ""


def suggested(root: Path, path: str) -> Suggestion:
    """Return the tasks that fit a file.

    Args:
        root: The workspace.
        path: The file below it.
    """
    status = (root / path).stat()
    return _ask(root, path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _ask(root: Path, path: str, _changed: int, _size: int) -> Suggestion:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "instil.studio.ship.suggest", f"./{path}"],
            cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return Suggestion((), "?")
    return Suggestion(tuple(answer.get("tasks", ())), answer.get("problem", ""))
