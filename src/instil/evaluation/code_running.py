"""Judges code: whether it compiles and, only where asked for, whether its tests pass.

Tests run in a fresh Python process with limits on time, memory, processes and file size, in an empty folder, without the
caller's environment and, where the system allows it, without network. Questionable on purpose: this is protection against
accidents, not against malice; whoever scores a model that they do not trust does so in a container.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instil.evaluation.cases import Case, Scores

SECONDS = 10
MEMORY_MB = 1024
_LIMITS = """\
import resource, sys
def _limit(kind, most):
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        pass
_limit(resource.RLIMIT_CPU, {seconds})
_limit(resource.RLIMIT_AS, {memory} * 1024 * 1024)
_limit(resource.RLIMIT_FSIZE, 16 * 1024 * 1024)
_limit(resource.RLIMIT_CORE, 0)
_limit(resource.RLIMIT_NOFILE, 64)
import socket
def _no_network(*_, **__):
    raise OSError("no network in tests")
socket.socket = socket.create_connection = socket.getaddrinfo = _no_network
exec(compile(open(sys.argv[1], encoding="utf-8").read(), "answer.py", "exec"), {{"__name__": "__main__"}})
"""


def code_in(text: str) -> str:
    r"""Give an answer's code: its fenced blocks, else the whole.

    Example:
        >>> code_in("Here:\n```python\nx = 1\n```\nDone.")
        'x = 1\n'
    """
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return "\n".join(blocks) if blocks else text


def compiles(code: str) -> bool:
    """Tell whether Python accepts the code; nothing is run."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "answer.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False
    return True


def tests_of(case: Case) -> str | None:
    """Give a row's tests: columns ``test``, ``tests``, ``test_list`` or ``unit_tests`` (text or list), and ``entry_point``."""
    given: Any = next(
        (case.columns[key] for key in ("test_list", "tests", "unit_tests", "test") if case.columns.get(key)), None
    )
    if given is None:
        return None
    tests = "\n".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    setup, entry = case.columns.get("test_setup_code"), case.columns.get("entry_point")
    call = f"\ncheck({entry})" if entry and "def check" in tests else ""
    return f"{setup}\n{tests}{call}" if isinstance(setup, str) and setup else tests + call


def passes(code: str, tests: str, *, seconds: int = SECONDS, memory_mb: int = MEMORY_MB) -> bool:
    """Run code and its tests in a process of their own; True where it ends well in time."""
    with tempfile.TemporaryDirectory(prefix="instil-tests-") as folder:
        program = Path(folder) / "answer.py"
        program.write_text(f"{code}\n\n{tests}\n", encoding="utf-8", errors="replace")
        limits = _LIMITS.format(seconds=seconds, memory=memory_mb)
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", limits, str(program)],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started dies with it
            process.wait()


def make_judge(*, run_tests: bool) -> Callable[[Case], Scores | None]:
    """Give a judge that compiles answers, and runs their rows' tests where that was asked for."""

    def judge(case: Case) -> Scores | None:
        code = code_in(case.prediction)
        scores = {"compiles": float(bool(code.strip()) and compiles(code))}
        tests = tests_of(case) if run_tests else None
        if tests is not None:
            prompt = str(case.columns.get("code_prompt", ""))
            scores["passes_tests"] = float(bool(scores["compiles"]) and passes(f"{prompt}{code}", tests))
        return scores

    return judge
