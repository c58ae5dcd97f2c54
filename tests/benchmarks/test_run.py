"""Each benchmark in its smallest form, in a clone without the corpus: it runs, and says what rows it took."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
from tests.benchmarks.programs import FOLDER, ROOT

SMALLEST = {
    "prepare": "--only tokenizers,million --rows 20 --million-rows 40 --repeats 1 --threads 1",
    "train_step": "--work demo --precision fp32 --peer none --steps 3 --repeats 1 --threads 1",
    "preference": "--work demo --peer none --steps 2 --threads 1",
    "plan": "--work demo --adapter lora --precision fp32 --steps 1 --batch 2",
    "cluster": "--only prepare --rows 1200",
    "cluster_driver": "--rows 1200 --workers 1",
    "cluster_training": "--kills 1 --steps 4",
    "billion": "--gpus 8",
    "after": "--parts generate --work demo --repeats 1",
    "decoding": "--work demo --precision fp32 --rows 1 --steps 2 --repeats 1 --peer none",
    "kill": "--kills 1 --steps 4",
    "buckets": "--rows 2000 --steps 4 --every 2 --repeats 1",
    "startup": "--rows 40 --prompts 4 --repeats 1",
    "busy": "--work demo --precision fp32 --busy 0,1 --settings none,passive --seconds 0.1 --rounds 1 --threads 2",
    "scaling": "--only tokens --tokens 256 --repeats 1",
    "shards": "--ranks 2 --small --steps 1",
    "shared_tokens": "--tokens 256 --processes 1,2 --threads 1",
}
ROWS = {
    "prepare": "the demo's own",
    "cluster": "the demo's own",
    "cluster_driver": "the demo's own",
    "cluster_training": "60 short sums",
    "train_step": "the demo's own",
    "preference": "the demo's own",
    "plan": "the demo's own",
    "after": "questions that are made up",
    "kill": "60 short sums",
    "shards": "the demo's own",
    "busy": "the demo's own",
}


@pytest.fixture
def clone(tmp_path):
    """The benchmarks in a folder without a corpus beside it."""
    shutil.copytree(FOLDER, tmp_path / "clone" / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "clone"


def run(clone, name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "INSTIL_CORPUS"}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", **variables}
    command = [sys.executable, f"benchmarks/{name}.py", *words]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False)


QUICKEST = ("plan",)
"""What CI runs with its long tests; the other forms are marked ``benchmark``."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in QUICKEST else pytest.mark.benchmark) for name in SMALLEST],
)
def test_it_runs_in_a_fresh_clone(name, clone):
    done = run(clone, name, *SMALLEST[name].split())
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    if name in ROWS:
        assert f"rows: {ROWS[name]}" in done.stderr
        assert figures["inputs"]["data"].startswith(ROWS[name])
    if name == "preference":
        (work,) = figures["works"]
        assert work["cases"][0]["ours"] > 0
        assert work["losses"]["ours"][0] == pytest.approx(math.log(2), abs=1e-6)
    if name == "busy":
        assert figures["costs_least"] in ("none 2", "passive 2")
        assert all(share["0"] == 1 and share["1"] > 0 for share in figures["shares"]["demo fp32"].values())
        assert "verdict: " in done.stdout


@pytest.mark.benchmark
@pytest.mark.slow
def test_a_tokenizer_alone_makes_a_shape_and_its_profile(clone):
    made = run(clone, "shapes", "tiny-smollm2-135m", "OUT", "--model", "demo", "--layers", "1")
    assert made.returncode == 0, made.stderr
    assert (clone / "OUT" / "tokenizer.json").exists()
    profiled = run(clone, "profile_model", "tiny-smollm2-135m", "--lengths", "20,30", "--threads", "1")
    assert "matrix products" in profiled.stdout, profiled.stderr


@pytest.mark.long
@pytest.mark.slow
def test_a_peer_that_pip_cannot_install_is_one_line(clone, tmp_path):
    peers = {"INSTIL_PEERS": str(tmp_path / "peers"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = run(clone, "train_step", "--peer", "trl", **peers)
    said = [line for line in done.stderr.splitlines() if not line.startswith("building")]
    assert done.returncode == 1
    assert len(said) == 1, done.stderr
    assert "pip could not install torch" in said[0]
    assert "run: python benchmarks/peers.py trl" in said[0]


@pytest.mark.slow
def test_a_machine_without_a_gpu_leaves_no_results(clone):
    """Every cell was noted as failed, and a noted cell is never measured again."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run(clone, "gpu", "--out", "gpu.jsonl")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "gpu.py: torch finds no NVIDIA GPU here. Expected one. Try it without one with --rehearse."
    )
    assert not (clone / "gpu.jsonl").exists()
