"""The commands in benchmarks/RESULTS.md and the pages are what the benchmarks take; what they import is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex

import pytest
from tests.benchmarks.programs import FOLDER, PROGRAMS, ROOT, program

COMMAND = re.compile(r"python benchmarks/(\w+)\.py([^`\n]*)")
NEED_NO_DATA = {
    "billion",
    "gpu",
    "buckets",
    "cuda_rehearsal",
    "decoding",
    "peers",
    "profile_model",
    "scaling",
    "shapes",
    "shared_tokens",
    "startup",
    "step_bytes",
    "studio",
}
NEED_A_TOKENIZER = {
    "after",
    "busy",
    "cluster",
    "cluster_driver",
    "decoding",
    "plan",
    "preference",
    "prepare",
    "shapes",
    "shards",
    "train_step",
}


def commands(text: str) -> list[tuple[str, str]]:
    return sorted({(name, words.strip()) for name, words in COMMAND.findall(text)})


RESULTS = commands((FOLDER / "RESULTS.md").read_text(encoding="utf-8"))
PAGES = commands("\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))))


def test_there_are_commands():
    assert len(RESULTS) >= 20
    assert len(PAGES) >= 3
    assert {name for name, _ in RESULTS} <= set(PROGRAMS)
    assert len(PROGRAMS) >= 11


@pytest.mark.parametrize(("name", "words"), sorted({*RESULTS, *PAGES}))
def test_the_benchmarks_own_parser_takes_every_command(name, words):
    words = words.replace("--help", "")  # which ends every program that has a parser
    program(name).build_parser().parse_args(shlex.split(words, comments=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train_step", "--work 135"),
        ("preference", "--reference store"),
        ("after", "--parts generation"),
        ("decoding", "--precision fp16"),
        ("plan", "--adapter qlora"),
        ("prepare", "--repeats 0"),
        ("scaling", "--only token"),
        ("busy", "--settings pasive"),
        ("busy", "--busy -1"),
        ("gpu", "--cell speed:llama-3.2-1b"),
        ("kill", "--kills 0"),
    ],
)
def test_a_mistyped_value_measures_nothing(name, words, capsys):
    """A work or part of another name was measured as the demo, or as nothing, without a word."""
    with pytest.raises(SystemExit) as ended:
        program(name).build_parser().parse_args(shlex.split(words))
    assert ended.value.code == 2
    assert "xpected" in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_where_rows_and_tokenizer_come_from(name, capsys):
    with pytest.raises(SystemExit):
        program(name).build_parser().parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ("--data FILE | owner/dataset" in shown) == (name not in NEED_NO_DATA)
    if name in NEED_NO_DATA - {"peers"}:
        assert "akes no data" in shown
    assert ("--model FOLDER | owner/name | demo" in shown) == (name in NEED_A_TOKENIZER)


def test_what_the_benchmarks_import_from_the_package_is_there():
    """Two benchmarks imported a function from where it no longer was, inside of functions that no test ran."""
    missing, num_names = [], 0
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "instil":
                for alias in node.names:
                    num_names += 1
                    if not is_there(node.module, alias.name):
                        missing.append(f"{path.name}: {node.module}.{alias.name}")
    assert num_names > 60
    assert missing == []


def is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True
