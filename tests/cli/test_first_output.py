"""A terminal shows a verb before torch, which takes seconds, is imported; a pipe and a quiet verb get nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import io, os, sys
class Stream(io.StringIO):
    def isatty(self): return {terminal}
real, sys.stdout, sys.stderr = sys.stdout, Stream(), Stream()
shown = sys.stderr
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            real.write("before torch: " + repr(shown.getvalue())); real.flush(); os._exit(0)
sys.meta_path.insert(0, Watch())
from instil.cli.main import main
main({words})
"""


def shown_before_torch(words: list[str], folder: Path, *, terminal: bool) -> str:
    """Return what a verb has written to standard error when torch is first imported."""
    (folder / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(words=words, terminal=terminal)],
        capture_output=True, text=True, check=True, cwd=folder, env={"PATH": "", "TERM": "xterm", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.startswith("before torch: "), done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train", "rows.jsonl"],
        ["inspect", "rows.jsonl"],
        ["generate", "demo", "--prompts", "rows.jsonl", "--out", "out.jsonl"],
        ["export", "demo", "out"],
    ],
)
def test_the_verb_is_on_the_terminal_before_torch_is_imported(words: list[str], tmp_path: Path):
    assert f"instil {words[0]}" in shown_before_torch(words, tmp_path, terminal=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "terminal"), [(["train", "rows.jsonl"], False), (["train", "rows.jsonl", "--quiet"], True)]
)
def test_a_pipe_and_a_quiet_verb_get_nothing(words: list[str], terminal: bool, tmp_path: Path):
    assert shown_before_torch(words, tmp_path, terminal=terminal) == "before torch: ''"


HEAVY = ("torch", "scipy", "sympy", "pandas", "sklearn", "accelerate", "peft", "datasets", "matplotlib")
"""Modules that a report on data needs no part of. transformers imports several of them for a model."""
LIST = """
import sys
from instil.cli.main import main
try: main({words})
finally: print("heavy:", *(name for name in {heavy} if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.long
@pytest.mark.slow
def test_inspect_imports_no_torch_once_a_model_is_known(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "INSTIL_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", LIST.format(words=["inspect", "rows.jsonl"], heavy=HEAVY)]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
        for _ in range(2)
    )
    assert "heavy: torch" in first.stderr
    assert "heavy:\n" in second.stderr
    assert first.stdout == second.stdout
    assert first.stdout.startswith("rows.jsonl\n  model demo")
