"""Every command in README.md and docs/: run by a test, or named here with the reason why it is not."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("instil", "python", "pip", "make", "torchrun", "vllm", "ollama")
RUN_ELSEWHERE = {
    "docs/evaluate.md": "tests/test_after_docs.py",
    "docs/export.md": "tests/test_after_docs.py",
    "docs/serve.md": "tests/test_after_docs.py",
    "docs/templates.md": "tests/template/test_docs.py",
}
NOT_RUN = {
    "pip install 'instil[serve]'": "needs a package index",
    "make demo": "it makes an environment; `instil demo` itself is run by tests/demo/test_whole_path.py",
    "make test": "it is what runs this",
    "torchrun --nproc-per-node 8 -m instil train recipe.yaml": "needs eight devices; tests/training/test_parallel.py starts two processes",
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


def commands_of(page: Path) -> list[str]:
    """Give the commands in a page's blocks, lines that go on joined, comments cut off."""
    lines, fence = [], None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif fence in ("sh", "bash", "") or (fence is None and line.startswith("    ")):
            lines.append(" ".join(re.sub(r"\s+#.*", "", line).split()))
    return [line for line in lines if line.split(" ")[0] in PROGRAMS]


PAGES = {
    str(page.relative_to(ROOT)): commands_of(page)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


def test_the_pages_have_commands():
    assert sum(map(len, PAGES.values())) > 30
    assert {"README.md", "docs/walkthrough.md", "docs/distributed.md"} <= {
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
    (tmp_path / "recipe.yaml").write_text(
        "model: {name: demo}\ndata: {sources: [rows.jsonl]}\noutput: runs/recipe\n", encoding="utf-8"
    )
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    from transformers import AutoTokenizer

    from instil.model.location import locate

    tokenizer = AutoTokenizer.from_pretrained(str(locate("demo").folder))
    tokenizer.save_pretrained(str(tmp_path / "TOKENIZER_FOLDER"))
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


def run(command: str, place: Path) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        words = [sys.executable, *words[1:], *(["--layers", "1"] if "shapes.py" in command else [])]
    else:
        words = [sys.executable, "-m", *smaller(words)]
    if "serve" in words:
        serve(words)
        return
    done = subprocess.run(
        words, cwd=place, input="How many apples?\n/exit\n", capture_output=True, text=True, timeout=300
    )
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
@pytest.mark.parametrize("page", [page for page, found in PAGES.items() if found and page not in RUN_ELSEWHERE])
def test_every_command_runs(page, place):
    ran = [line for line in PAGES[page] if line not in NOT_RUN]
    for line in ran:
        run(line, place)
    for program in re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        if page == "docs/walkthrough.md":
            subprocess.run([sys.executable, "-c", program], cwd=place, check=True, timeout=120)
