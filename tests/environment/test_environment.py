"""Claims about `instil.env`: it reports a broken or missing package, breaks on none, and tells nothing private."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import instil
from instil.environment.environment import Environment, Gpu

SOURCE = Path(instil.__file__).parents[1]
SECRET = "hf_secret"


def bare(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python without installed packages, but with those of a folder."""
    variables = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{folder}", "HF_TOKEN": SECRET}
    return subprocess.run(
        [sys.executable, "-S", *words], capture_output=True, text=True, cwd=folder, env=variables, timeout=120
    )


def make_package(folder: Path, name: str, version: str, program: str) -> None:
    (folder / f"{name}.py").write_text(program)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def assert_nothing_private(text: str, folder: Path) -> None:
    assert SECRET not in text
    names = {str(folder), str(Path.home()), platform.node(), getpass.getuser()} - {"root", "/root", "localhost"}
    assert len(names) >= 2
    # As words: a machine may be called "vm", and a package llvmlite.
    assert [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)] == []


@pytest.mark.parametrize(
    "words", [("-c", "import instil; print(instil.env())"), ("-m", "instil", "env")], ids=["python", "command"]
)
def test_it_works_without_any_package_and_names_a_broken_one(words, tmp_path):
    make_package(tmp_path, "torch", "2.0.0", f"raise OSError('{tmp_path}/libtorch.so: undefined symbol')\n")
    make_package(tmp_path, "peft", "0.18.0", "import os\nos.abort()\n")
    done = bare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"instil {instil.__version__}"
    for line in (
        "GPU    none that torch sees; torch cannot be imported",
        "transformers: not installed. Expected transformers. Run: pip install instil",
        "torch: 2.0.0 is installed and cannot be imported (OSError: …/libtorch.so: undefined symbol). Install it again.",
        "peft: 0.18.0 is installed and cannot be imported (it ends Python (SIGABRT)). Install it again.",
    ):
        assert line in lines, done.stdout
    assert_nothing_private(done.stdout, tmp_path)


def test_another_command_of_a_broken_installation_is_one_line(tmp_path):
    done = bare(tmp_path, "-m", "instil", "train", "rows.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "error: instil: a package cannot be imported (No module named 'cyclopts'). "
        "Expected a whole installation. Run: instil env; --traceback shows where.\n"
    )


def test_a_version_that_instil_does_not_take_is_a_problem(monkeypatch):
    from instil.environment import environment

    monkeypatch.setattr(environment, "version_of", lambda name: "4.57.1" if name == "transformers" else None)
    monkeypatch.setattr(environment, "ask", lambda steps: dict.fromkeys(steps, environment.Answer()))
    problems = environment.env().problems
    assert any(
        line.startswith("transformers: found 4.57.1. Expected <6,>=5.17. Run: pip install") for line in problems
    ), problems


MADE = Environment(
    instil="0.1.0", python="3.12.1 (CPython)", system="Debian GNU/Linux 12, Linux 6.1, x86_64",
    packages={"torch": "2.11.0+cu128", "peft": None}, extras={"serve": {"fastapi": "0.115", "uvicorn": None}, "gguf": {"gguf": None}},
    cores=8, threads=4, memory=2**36, free_memory=2**35, memory_limit=2**34, built_for="CUDA 12.8",
    gpus=(Gpu("NVIDIA H200, compute capability 9.0", 2**37, 2**36),), problems=("peft: not installed. <b>",),
)  # fmt: skip


def test_the_record_reads_as_text_page_and_json():
    assert (
        repr(MADE)
        == """\
instil 0.1.0
Python 3.12.1 (CPython)
system Debian GNU/Linux 12, Linux 6.1, x86_64

Packages
torch 2.11.0+cu128
peft  not installed

Extras
serve fastapi 0.115; not installed: uvicorn
gguf  not installed

Machine
CPU    8 cores, 4 threads of torch
memory 64.0 GB, 32.0 GB free; this container may use 16.0 GB
GPU 0  NVIDIA H200, compute capability 9.0, 128.0 GB, 64.0 GB free

Problems
peft: not installed. <b>"""
    )
    page = MADE._repr_html_()
    assert "2.11.0+cu128" in page
    assert "&lt;b&gt;" in page
    assert json.loads(json.dumps(MADE.to_json()))["gpus"][0]["memory"] == 2**37
