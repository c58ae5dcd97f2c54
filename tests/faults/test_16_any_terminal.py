"""On a terminal of any encoding no verb ends in a traceback: what cannot be shown is replaced, data stays as it is."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from tests.faults.rows_on_disk import write_jsonl
from tests.forks import in_fork, start_fork
from tests.training.command_line import QUICK, make_base

ODD = "⟦naïve⟧ → “翻译” 안녕 😀 и ё · … \u200b"
ALL_VERBS = """
import sys
from instil.cli.main import main

def call(*words):
    print("#", *words)
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, (words, end.code)
    sys.stdout.flush()

base, rows, recipe, run = sys.argv[1:5]
call("plan", recipe)
call("prepare", recipe)
call("prepare", recipe, "--json")
call("inspect", rows, "--model", base)
call("inspect", rows, "--model", base, "--row", "2")
call("inspect", rows, "--model", base, "--fix", run + "-fixed.jsonl")
call("inspect", rows, "--model", base, "--json")
call("template", "list")
call("template", "show", "chatml")
call("template", "list", "--json")
call("template", "prove", "chatml")
call("train", recipe)
call("runs", run)
call("generate", run, "--prompts", rows, "--out", run + "/answers.jsonl", "--limit", "1")
call("evaluate", run, "--data", rows, "--limit", "2")
call("export", run, run + "-out", "--dtype", "fp32")
call("chat", run)
"""


def write_inputs(folder: Path) -> list[str]:
    base = make_base(folder / "base")
    rows = [{"question": f"{n}: {ODD}", "answer": f"{ODD} {n}."} for n in range(8)]
    path = write_jsonl(folder / "rows.jsonl", [*rows, {"question": ODD, "ansewr": ODD}])
    recipe = {
        **QUICK,
        "output": str(folder / "run"),
        "model": {"name": str(base)},
        "data": {"sources": [str(path)], "store": str(folder / "store"), "on_bad_row": "skip", "heldout_share": 0.3},
        "training": {**QUICK["training"], "max_steps": 1},
        "evaluate": {"every": 1, "max_new_tokens": 3, "samples": [ODD]},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return [str(base), str(path), str(folder / "r.yaml"), str(folder / "run")]


def output_of(words: list[str], typed: bytes = b"", **environment: str) -> bytes:
    """Run Python with an environment; fail if it fails. Return everything that it printed."""
    done = subprocess.run(
        [sys.executable, *words], input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **environment}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:].decode(errors="replace")
    assert b"Traceback" not in done.stdout, done.stdout[-3000:]
    return done.stdout


def written_on_a_terminal(work: Callable[[], object], typed: bytes, **environment: str) -> str:
    """Call a function in a fork on a terminal of 80 columns; fail if it fails. Return all that it wrote, with the escapes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))

    def on_the_terminal() -> None:
        for number in range(3):
            os.dup2(theirs, number)
        os.close(ours)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the fork's end
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        work()

    running = start_fork(on_the_terminal, **environment)
    os.close(theirs)
    os.write(ours, typed)
    pieces = []
    while True:
        try:
            pieces.append(os.read(ours, 65536))
        except OSError:  # the other end is closed
            break
        if not pieces[-1]:
            break
    os.close(ours)
    running.communicate(timeout=60)
    written = b"".join(pieces).decode()
    assert running.returncode == 0, written[-3000:]
    return written


TYPED = "héllo \u00ff\n/exit\n".encode("latin-1")


@pytest.mark.slow
def test_every_verb_prints_on_an_ascii_terminal(tmp_path: Path) -> None:
    ended = in_fork(partial(all_verbs_on, "ascii", write_inputs(tmp_path)))
    assert ended.code == 0, ended.output[-3000:]
    text = ended.output
    assert "Traceback" not in text, text[-3000:]
    assert text.isascii()
    assert "[" in text
    assert "->" in text
    (folder,) = [
        json.loads(part[part.index("{") : part.rindex("}") + 1])["folder"]
        for part in text.split("# ")
        if part.startswith("prepare") and "--json" in part.split("\n")[0]
    ]
    assert Path(folder).is_dir()


@pytest.mark.slow
@pytest.mark.long
def test_every_verb_prints_on_a_terminal_of_the_c_locale(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output_of(["-c", ALL_VERBS, *write_inputs(tmp_path)], TYPED, **locale)


def all_verbs_on(encoding: str, words: list[str]) -> None:
    """Call every verb with streams as Python opens them under PYTHONIOENCODING."""
    os.environ["PYTHONIOENCODING"] = encoding
    sys.stdin = io.TextIOWrapper(io.BytesIO(TYPED), encoding=encoding, errors="strict")
    sys.stdout = open(1, "w", buffering=1, encoding=encoding, errors="strict", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    all_verbs(words)


def all_verbs(words: list[str]) -> None:
    """Call every verb, here."""
    sys.argv = ["-c", *words]
    exec(ALL_VERBS, {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding", [pytest.param("gbk", marks=pytest.mark.long), pytest.param("latin-1", marks=pytest.mark.long), "cp1252"]
)
def test_every_verb_prints_on_any_terminal(encoding: str, tmp_path: Path) -> None:
    ended = in_fork(partial(all_verbs_on, encoding, write_inputs(tmp_path)))
    assert ended.code == 0, ended.output[-3000:]
    assert "Traceback" not in ended.output, ended.output[-3000:]


@pytest.mark.slow
def test_converted_data_is_utf8_on_any_terminal(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": ODD, "answer": "ok"}])
    printed = output_of(["-m", "instil", "convert", str(rows), "-"], PYTHONIOENCODING="gbk")
    assert json.loads(printed.splitlines()[0])["messages"][0]["content"] == ODD


def test_an_error_with_odd_characters_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "instil", "convert", str(tmp_path / "⟦翻译⟧.jsonl"), "-"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"[??].jsonl: no such file" in done.stderr


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


@pytest.mark.slow
@pytest.mark.parametrize("no_color", ["", pytest.param("1", marks=pytest.mark.long)])
def test_no_verb_writes_a_colour_where_no_color_is_set(no_color: str, tmp_path: Path) -> None:
    environment = {"TERM": "xterm-256color", **({"NO_COLOR": no_color} if no_color else {})}
    work = partial(all_verbs, write_inputs(tmp_path))
    written = written_on_a_terminal(work, "héllo\n/exit\n".encode(), **environment)
    coloured = [line for line in written.split("\n") if COLOUR.search(line)]
    assert bool(coloured) is not bool(no_color), coloured[:5]
