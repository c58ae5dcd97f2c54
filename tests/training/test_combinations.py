"""One process against two for every combination of the table in docs/how-it-works/training.md, replicated and sharded."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tests.training.combinations import (
    COMPILED,
    REPLICATED,
    SHARDED,
    STEPS,
    Combination,
    make_base,
    train_combination,
)
from tests.training.tiny import CPU

from instil.training.processes.ranks import Ranks

pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: the table's tests are left out")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TOLERANCE = {"fp32": 2e-5, "bf16": 0.02, "pure_bf16": 0.03, "fp16": 5e-3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Any]:
    # The workers of a run have one parent folder; the first that comes trains for all.
    folder = tmp_path_factory.getbasetemp()
    found = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "losses-of-two.json"
    with FileLock(f"{found}.lock"):
        if not found.exists():
            _train_on_two(base, found)
    losses: dict[str, Any] = json.loads(found.read_text())
    return losses


def _train_on_two(base: Path, found: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", "-m", "tests.training.combinations", str(base), str(found)]
    started = [subprocess.Popen(words, env=os.environ | shared | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(timeout=600) for process in started] == [0, 0]


@pytest.mark.parametrize("given", [*REPLICATED, *SHARDED], ids=lambda given: given.name)
def test_two_processes_train_as_one_does(given: Combination, base: Path, of_two: dict[str, Any]):
    alone = train_combination(given, base, Ranks(0, 1, CPU))
    assert len(alone) == STEPS
    assert isinstance(of_two[given.name], list), of_two[given.name]
    assert of_two[given.name] == pytest.approx(alone, abs=TOLERANCE[given.precision])


@pytest.mark.compiled
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: the column of compiled runs is left out")
@pytest.mark.parametrize("given", COMPILED, ids=lambda given: given.name)
def test_compiled_trains_as_not_compiled_does(given: Combination, base: Path):
    import torch

    torch.compiler.reset()
    one = Ranks(0, 1, CPU)
    plain = train_combination(replace(given, also=given.also.removeprefix("compile").strip()), base, one)
    assert train_combination(given, base, one) == pytest.approx(plain, abs=TOLERANCE[given.precision])
