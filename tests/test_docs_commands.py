"""Every command in README.md and docs/: run by a test, or named here with the reason why it is not."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from docs.make_screens import files_of
from tests.forks import exit_code_of, in_fork
from tests.tiny_chat import tiny_tokenizer
from tests.training.command_line import forked

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("instil", "python", "pip", "make", "torchrun", "vllm", "ollama")
RUN_ELSEWHERE = {
    "docs/how-to/serve.md": "tests/test_after_docs.py",
    "docs/reference/evaluating.md": "tests/test_after_docs.py",
    "docs/reference/exporting.md": "tests/test_after_docs.py",
    "docs/reference/serving.md": "tests/test_after_docs.py",
    "docs/reference/templates.md": "tests/template/test_docs.py",
}
NOT_RUN = {
    "instil clean --unusable --remove": "it removes prepared stores of whoever runs the tests; tests/cli/test_clean.py runs it",
    "instil recipe new": "it asks on a terminal; tests/cli/test_recipe.py answers it on one",
    "pip install 'instil[serve]'": "needs a package index",
    "pip install 'instil[studio]'": "needs a package index",
    "instil studio work": "it serves until it is stopped; tests/studio opens one and its pages",
    "pip install 'instil[excel]'": "needs a package index",
    "pip install 'instil[search]'": "needs a package index",
    "pip install 'instil[ray]'": "needs a package index",
    "pip install 'instil[s3]'": "needs a package index",
    "instil train recipe.yaml --parallel.launcher ray --parallel.processes 2": "it starts Ray; tests/training/processes trains on one",
    "instil prepare recipe.yaml --data.cluster ray": "it starts Ray; tests/preparation/cluster prepares on one, and on two nodes",
    "pip install 'instil[quantise]'": "needs a package index and a compiler",
    "python docs/make_screens.py": "it writes blocks of the pages and trains for them; their commands are run",
    "instil COMMAND --help": "COMMAND stands for any; tests/cli shows the help of each",
    "instil recipe show NAME > mine.yaml": "a shell writes the file; tests/cli/test_recipe.py shows each recipe",
    "python docs/make_commands.py": "it writes a page of this repository; tests/docs/test_reference.py holds it",
    "python docs/make_errors.py": "it writes a page of this repository; tests/docs/test_reference.py holds it",
    "python docs/make_python_names.py": "it writes a page of this repository; tests/docs/test_reference.py holds it",
    "python docs/make_run_folder.py": "it writes a page of this repository; tests/docs/test_reference.py holds it",
    "python docs/make_settings.py": "it writes a page of this repository; tests/recipe/test_recipe.py holds the page against what it writes",
    "instil demo": "two minutes; tests/demo/test_whole_path.py runs it",
    "instil demo --preference": "three minutes; tests/demo/test_run.py runs it",
    "instil chat runs/demo": "it talks to the run of `instil demo`; tests/test_after_docs.py runs it",
    "make demo": "it makes an environment; `instil demo` itself is run by tests/demo/test_whole_path.py",
    "make demo PYTHON=python3.12": "it makes an environment, with a Python that may be missing",
    "make serve-docs": "it serves until it is stopped; tests/docs/test_site.py builds the site and opens its pages",
    "make test": "it is what runs this",
    "pip install .": "needs a package index",
    "pip install '.[qlora,serve]'": "needs a package index",
    "python benchmarks/prepare.py": "needs TRL and minutes; the page names its results",
    "python benchmarks/prepare.py --only trl,tokenizers --threads 1 --clock cpu": "needs TRL and minutes",
    "python benchmarks/cluster_driver.py --rows 30000 --workers 1,8 --task-seconds 0.01": "it starts Ray, and takes minutes; tests/benchmarks runs its smallest form",
    "python benchmarks/cluster.py --only prepare --sides ray --short --rows 2000000": "it starts Ray, and takes half an hour; tests/benchmarks runs its smallest form",
    "python benchmarks/step_bytes.py": "it makes networks, as root; tests/benchmarks takes its command line",
    "instil evaluate runs/demo --harness gsm8k": "needs the network; tests/evaluation/test_harness.py runs a task file of its own",
    "python -m tests.training.architectures": "needs six minutes; tests/training/test_architectures.py runs a part of it",
    "torchrun --max-restarts N … train recipe.yaml --resume": "it waits for a process that dies; tests/training/test_torchrun.py starts torchrun",
    "python -m tests.conformance.refusals": "needs the corpus of public templates and minutes",
    "instil export runs/demo out/hub --push owner/name --tag v1": "needs the Hub; tests/exporting/test_push.py uploads to one on this machine",
    "instil export runs/demo out/steps --every-checkpoint": "tests/exporting/test_every_checkpoint.py exports a run's checkpoints",
    "instil export runs/demo out-checked --dtype fp32 --check-with 4": "needs a package index; tests/faults/test_04_transformers_4.py runs the comparison",
    "instil export ADAPTER FOLDER": "ADAPTER stands for any adapter; tests/exporting/test_adapter_folder.py exports some",
    "ollama create NAME -f out/ollama/Modelfile": "Ollama was not to be had; the page says that it is untested",
    "vllm serve OUT": "vLLM was not to be had; the page says that it is untested",
    "torchrun --nproc-per-node 8 -m instil train recipe.yaml": "needs eight devices; tests/training/test_two_processes.py starts two processes",
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 --rdzv-backend c10d -m instil train recipe.yaml": "needs two machines",
}
SMALL = {
    "train": "--training.max-steps 2 --training.batch-size 4 --evaluate.every 2 --evaluate.max-new-tokens 4 --data.heldout-max 2 --threads 1",
    "evaluate": "--limit 4 --max-new-tokens 8 --device cpu",
    "generate": "--limit 4 --max-new-tokens 8 --device cpu",
    "chat": "--max-new-tokens 8 --device cpu",
    "export": "--device cpu",
    "serve": "--device cpu",
}
"""Options that make a command small enough for a test; they take the place of the page's."""


FIRST_READ = ("docs/index.md", "docs/start/first-run.md")
"""Pages whose commands run in each run of the tests; those of the others are marked `long`."""
TYPED = "How many apples?\n/exit\n"
INLINE = re.compile(r"`((?:instil|python|pip|make|torchrun|vllm|ollama) [^`]+)`")
VERBS = re.compile(r"instil [a-z]+|instil --help|instil template (list|compare|show|prove)")
"""What names a verb in the middle of a sentence and asks for nothing to be typed."""
NAMED = {"DATA": "rows.jsonl", "M": "demo", "MODEL": "demo", "Qwen/Qwen2.5-0.5B-Instruct": "demo"}
"""What stands for anything of a kind in the pages, and what it is in the test."""
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[str]:
    """Give the commands of a page: in its blocks, lines that go on joined, comments cut off; and those within its text."""
    lines, fence = [], None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif fence in ("sh", "bash", "") or (fence is None and line.startswith("    ")):
            lines.append(" ".join(re.sub(r"\s+#.*", "", line).split()))
        elif fence is None:
            lines += [found for found in INLINE.findall(line) if not VERBS.fullmatch(found)]
    return [line for line in lines if line.split(" ")[0] in PROGRAMS]


def programs_of(page: str) -> list[str]:
    """Give a page's Python, less what is run by tests/encoding/test_what_is_trained_page.py, with what it shows."""
    found = PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))
    return [program for program in found if not program.startswith(">>>")]


# Notes are dated records of trials: what they ran, and the files that they name, are of their day.
OF_THEIR_DAY = ROOT / "docs" / "how-it-works" / "notes"
DOCS = sorted(page for page in (ROOT / "docs").rglob("*.md") if OF_THEIR_DAY not in page.parents)
PAGES = {str(page.relative_to(ROOT)): commands_of(page) for page in [ROOT / "README.md", *DOCS]}


LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)#?([^)\s]*)\)")
FILE = re.compile(r"(?<![\w/.…$])(?!runs/)((?:\w+/)+\w+\.(?:py|yaml|jinja))(?!\w)")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_and_files_of_the_pages_exist():
    num_links = num_files = 0
    wrong = []
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *DOCS]:
        text = page.read_text(encoding="utf-8")
        for name, anchor in LINK.findall(text):
            num_links += 1
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {name}#{anchor}")
        for name in FILE.findall(text):
            num_files += 1
            if not any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "instil")):
                wrong.append(f"{page.relative_to(ROOT)}: {name}")
    assert num_links > 30
    assert num_files > 20
    assert wrong == []


def test_the_pages_have_commands():
    assert sum(map(len, PAGES.values())) > 45
    assert {"README.md", "docs/start/walkthrough.md", "docs/how-to/several-gpus.md"} <= {
        page for page, found in PAGES.items() if found
    }
    for page, test in RUN_ELSEWHERE.items():
        assert PAGES[page], page
        assert (ROOT / test).exists(), test


def test_what_is_not_run_still_stands_in_a_page():
    there = {line for found in PAGES.values() for line in found}
    assert set(NOT_RUN) <= there, set(NOT_RUN) - there


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the files that the pages name, a few rows each."""
    rows = [
        {"question": f"Tom has {n} apples and buys {n + 2}. How many?", "answer": f"He has {n}+{n + 2}={2 * n + 2}.\n#### {2 * n + 2}"}
        for n in range(24)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("gsm8k_train", "gsm8k_test", "train", "test", "rows"):
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    alpaca = [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in rows]
    (tmp_path / "alpaca.json").write_text(json.dumps(alpaca), encoding="utf-8")
    (tmp_path / "books.csv").write_text("title,summary\nEmma,A matchmaker errs.\n", encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(
        "model: {name: demo}\ndata: {sources: [rows.jsonl]}\noutput: runs/recipe\n", encoding="utf-8"
    )
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    from transformers import AutoTokenizer

    from instil.model.folder.location import locate

    tokenizer = AutoTokenizer.from_pretrained(str(locate("demo").folder))
    tokenizer.save_pretrained(str(tmp_path / "TOKENIZER_FOLDER"))
    tiny_tokenizer().save_pretrained(str(tmp_path / "path" / "to" / "model"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smaller(words: list[str]) -> list[str]:
    small = shlex.split(SMALL.get(words[1], ""))
    for option, value in zip(small[::2], small[1::2], strict=True):
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words = [*words, option, value]
    return words


def run(command: str, place: Path, *, forks: bool) -> None:
    """Run a command in a fork of this process, which has torch and transformers imported already.

    A server, a program of Python, and everything where there is no fork, has a process of its own, as at a person's.
    """
    words = [NAMED.get(word, word) for word in shlex.split(command)]
    words, into = (words[:-2], words[-1]) if ">" in words else (words, None)
    is_python = words[0] == "python"
    if is_python:
        words = [sys.executable, *words[1:], *(["--layers", "1"] if "shapes.py" in command else [])]
    else:
        words = smaller(words)
    if "serve" in words:
        serve([sys.executable, "-m", *words])
    elif forks and not is_python:
        said = place / "said.txt"
        child = forked(*words[1:], said=said, typed=TYPED)
        assert exit_code_of(child) == 0, f"{command}\n{said.read_text()[-3000:]}"
        if into:
            shutil.copy(said, place / into)
    else:
        words = words if is_python else [sys.executable, "-m", *words]
        done = subprocess.run(words, cwd=place, input=TYPED, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def serve(words: list[str]) -> None:
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen([word if word != "8000" else port for word in words], stdout=subprocess.PIPE, text=True)
    try:
        assert "serving" in server.stdout.readline()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                assert json.load(urlopen(f"http://127.0.0.1:{port}/health"))["status"] == "ok"
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail("the server did not come up")
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.startswith(FIRST_READ) else pytest.mark.long)
        for page, found in PAGES.items()
        if (found or programs_of(page)) and page not in RUN_ELSEWHERE
    ],
)
def test_every_command_runs(page, place):
    for name, text in files_of((ROOT / page).read_text(encoding="utf-8")).items():
        (place / name).write_text(text, encoding="utf-8")
    ran = [line for line in PAGES[page] if line not in NOT_RUN]
    for line in ran:
        run(line, place, forks=hasattr(os, "fork"))
    for program in programs_of(page):
        run_program(program, place, forks=hasattr(os, "fork"))


def run_program(program: str, place: Path, *, forks: bool) -> None:
    """Run Python in a process of its own, or in a fork; what starts processes itself is always a process of its own."""
    if forks and "__main__" not in program:
        ended = in_fork(partial(exec, program, {"__name__": "__main__"}))
        assert ended.code == 0, f"{program}\n{ended.output[-1500:]}"
    else:
        done = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{program}\n{done.stderr[-1500:]}"
