"""Every `instil` command in the pages on talking, measuring, serving and shipping runs."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny_chat import FACTS, folders

from instil.cli.main import main

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page):
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith("instil ")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages name: a run and a file of questions; `demo` is the tiny base model."""
    shutil.copytree(folders()["run"], tmp_path / "runs" / "demo")
    shutil.copytree(folders()["base"], tmp_path / "demo")
    rows = [{"question": q, "answer": a} for q, a in FACTS[:4]]
    rows.append({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hi"},
                              {"role": "assistant", "content": "Hi there!"}, {"role": "user", "content": "Say hi"},
                              {"role": "assistant", "content": "Hi there!"}]})  # fmt: skip
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, monkeypatch):
    words = [word if word != "demo" else "./demo" for word in shlex.split(line)[1:]]
    monkeypatch.setattr("sys.stdin", io.StringIO("Say hi\n/tokens\n/exit\n"))
    try:
        main(words)
    except SystemExit as ended:
        return ended.code or 0
    return 0


@pytest.mark.slow
def test_talking_and_measuring(place, monkeypatch, capsys):
    pytest.importorskip("sacrebleu")
    lines = commands("reference/evaluating.md")
    assert len(lines) == 6
    for line in lines:
        assert run(line, monkeypatch) == 0, line
    assert "Hi there!" in capsys.readouterr().out
    assert len((place / "drawn.jsonl").read_text(encoding="utf-8").splitlines()) == 4 * 5
    assert (place / "report" / "evaluation.html").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_shipping(place, monkeypatch):
    pytest.importorskip("gguf")
    lines = commands("reference/exporting.md")
    assert len(lines) == 5
    quantised = [line for line in lines if "q4_k_m" in line]
    assert len(quantised) == 1
    for line in lines:
        if line not in quantised or importlib.util.find_spec("llama_cpp"):  # which quantises
            assert run(line, monkeypatch) == 0, line
    assert (place / "out" / "ollama" / "Modelfile").exists()


@pytest.mark.long
@pytest.mark.slow
def test_serving(place):
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    (line,) = commands("reference/serving.md")
    assert commands("how-to/serve.md") == [line.replace("runs/demo", "runs/rows")]
    pages = ("how-to/serve.md", "reference/serving.md")
    program = "\n".join(block for page in pages for block in blocks(page, "python")).replace("runs/rows", "runs/demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(line.replace("8000", port))], cwd=place, stdout=subprocess.PIPE, text=True
    )
    try:
        assert "serving runs/demo" in server.stdout.readline()
        said = subprocess.run(
            [sys.executable, "-c", program.replace("8000", port).replace("Hello", "Say hi")],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert said.stdout == "Hi there!\n=4\n#### 4\n", said.stderr
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


def test_the_tables_name_every_task_and_constraint():
    from instil.evaluation.constraints import CHECKS
    from instil.evaluation.dialogue import DIALOGUE_TASKS
    from instil.evaluation.tasks import TASKS

    text = (DOCS / "reference/evaluating.md").read_text(encoding="utf-8")
    for name in (*TASKS, *DIALOGUE_TASKS, *CHECKS):
        assert f"`{name}`" in text, name
