"""On a terminal of any encoding no verb ends in a traceback: what cannot be shown is replaced, data stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.faults.rows_on_disk import write_jsonl
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
if len(sys.argv) > 5:
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


ENVIRONMENTS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "gbk"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.slow
def test_verbs_print_on_an_ascii_terminal(tmp_path: Path) -> None:
    printed = output_of(["-c", ALL_VERBS, *write_inputs(tmp_path)], **ENVIRONMENTS[0])
    text = printed.decode("ascii")
    assert "[" in text
    assert "->" in text
    (folder,) = [
        json.loads(part[part.index("{") : part.rindex("}") + 1])["folder"]
        for part in text.split("# ")
        if part.startswith("prepare") and "--json" in part.split("\n")[0]
    ]
    assert Path(folder).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_every_verb_prints_on_any_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    typed = "héllo \u00ff\n/exit\n".encode("latin-1")
    output_of(["-c", ALL_VERBS, *write_inputs(tmp_path), "all"], typed, **environment)


def test_converted_data_is_utf8_on_any_terminal(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": ODD, "answer": "ok"}])
    printed = output_of(["-m", "instil", "convert", str(rows), "-"], PYTHONIOENCODING="gbk")
    assert json.loads(printed.splitlines()[0])["messages"][0]["content"] == ODD


def test_an_error_with_odd_characters_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "instil", "inspect", str(tmp_path / "⟦翻译⟧.jsonl")],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"[??].jsonl: no such file" in done.stderr
