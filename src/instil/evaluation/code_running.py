"""The code task: whether an answer compiles and, if requested, whether the row's tests pass.

Tests run in a fresh Python process with limits on time, memory, open files and file size. It starts in an empty folder,
without the caller's environment, and Python's sockets are disabled in it.

Why: this protects against accidents, not against malicious code. Evaluate an untrusted model in a container.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
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
    r"""Return the code of an answer: its fenced blocks, or the full text if it has none.

    Example:
        >>> code_in("Here:\n```python\nx = 1\n```\nDone.")
        'x = 1\n'
    """
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return "\n".join(blocks) if blocks else text


def compiles(code: str) -> bool:
    """Return True if Python can compile the code; nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "answer.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False
    return True


def tests_of(case: Case) -> str | None:
    """Return the tests of a row as Python code; None if it has none.

    They stand in the column ``test``, ``tests``, ``test_list`` or ``unit_tests``, as text or a list of texts.
    ``test_setup_code`` (MBPP) is put in front. With ``entry_point`` (HumanEval), ``check(entry_point)`` is called.
    """
    column: Any = next(
        (case.columns[key] for key in ("test_list", "tests", "unit_tests", "test") if case.columns.get(key)), None
    )
    if column is None:
        return None
    tests = "\n".join(map(str, column)) if isinstance(column, list | tuple) else str(column)
    setup, entry = case.columns.get("test_setup_code"), case.columns.get("entry_point")
    call = f"\ncheck({entry})" if entry and "def check" in tests else ""
    return f"{setup}\n{tests}{call}" if isinstance(setup, str) and setup else tests + call


def passes(code: str, tests: str, *, seconds: int = SECONDS, memory_mb: int = MEMORY_MB) -> bool:
    """Run code and its tests in a separate process; return True if it exits with status 0 in time."""
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
                os.killpg(process.pid, signal.SIGKILL)  # ends the processes that the tests started too
            process.wait()


def make_judge(*, run_tests: bool) -> Callable[[Case], Scores | None]:
    """Return a judge that compiles answers and, with `run_tests`, runs the tests of their rows."""

    def judge(case: Case) -> Scores | None:
        code = code_in(case.prediction)
        scores = {"compiles": float(bool(code.strip()) and compiles(code))}
        tests = tests_of(case) if run_tests else None
        if tests is not None:
            # The column holds code that belongs before the answer, such as imports or the head of a function.
            prompt = str(case.columns.get("code_prompt", ""))
            scores["passes_tests"] = float(bool(scores["compiles"]) and passes(f"{prompt}{code}", tests))
        return scores

    return judge
