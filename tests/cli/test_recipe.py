"""Claims about ``instil recipe``: what ships is listed and shown, and a new one is written from flags or from answers."""

from __future__ import annotations

import os
import pty
import sys

import pytest
from tests.cli.test_main import run
from tests.forks import start_fork

from instil.cli.main import main
from instil.recipe import Recipe
from instil.recipe.shipped import launch_files, shipped_names


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n' * 40)
    return tmp_path


def test_what_ships_is_listed_and_shown(capsys):
    code, out, _ = run(capsys, "recipe", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [*shipped_names(), *launch_files()]
    assert all(len(line) < 120 for line in out.splitlines())
    code, out, _ = run(capsys, "recipe", "show", "lora")
    assert code == 0
    assert "kind: lora" in out
    code, _, err = run(capsys, "recipe", "show", "lorra")
    assert code == 2
    assert "no recipe that ships has this name (did you mean 'lora'?)" in err


@pytest.mark.slow
def test_flags_write_a_file_that_is_never_overwritten(capsys, place):
    code, out, _ = run(capsys, "recipe", "new", "rows.jsonl", "--model", "demo", "--adapter", "lora")
    assert code == 0
    assert "instil train rows.yaml" in out
    text = (place / "rows.yaml").read_text()
    assert Recipe.load(place / "rows.yaml").adapter.kind == "lora"
    for words, reason in (
        (["rows.jsonl"], "rows.yaml: exists, and is not overwritten"),
        (["rows.jsonl", "--out", "rows.txt"], "is no name of a recipe"),
        (["--data", "rows.jsonl", "--adapter", "dora", "--out", "x.yaml"], "Expected auto, none or lora"),
        ([], "recipe new: found no data"),
    ):
        code, _, err = run(capsys, "recipe", "new", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert reason in err
    assert (place / "rows.yaml").read_text() == text


@pytest.mark.slow
def test_it_asks_on_a_terminal_until_an_answer_can_be_used(place):
    ours, theirs = pty.openpty()

    def typed_on_a_terminal():
        os.dup2(theirs, 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the fork's end
        main(["recipe", "new"])

    process = start_fork(typed_on_a_terminal, separate_errors=True)
    os.write(ours, b"rows.jsnl\nrows.jsonl\n\ndora\nlora\nmine.yaml\n")
    out, err = process.communicate(timeout=200)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, err
    assert "did you mean 'rows.jsonl'?" in err
    assert "Expected auto, none or lora" in err
    assert "Model (folder, run, Hub id or demo) [demo]: " in out
    assert Recipe.load(place / "mine.yaml").adapter.kind == "lora"
