"""One process against two for every combination of the table in docs/how-it-works/training.md, replicated and sharded."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tests.training.combinations import (
    COMPILED,
    FURTHER,
    REPLICATED,
    SHARDED,
    STEPS,
    Combination,
    main,
    make_base,
    train_combination,
)
from tests.training.command_line import call_on_processes
from tests.training.tiny import CPU

from instil.training.processes.ranks import Ranks

pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: the table's tests are left out")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TOLERANCE = {"fp32": 2e-5, "bf16": 0.02, "pure_bf16": 0.03, "fp16": 5e-3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, base: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    # The workers of a run have one parent folder; the first that comes trains for all.
    folder = tmp_path_factory.getbasetemp()
    found = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "losses-of-two.json"
    given = [item.callspec.params.get("given") for item in request.session.items if hasattr(item, "callspec")]
    names = {one.name for one in given if isinstance(one, Combination)}
    with FileLock(f"{found}.lock"):
        if not found.exists():
            call_on_processes(2, partial(main, str(base), str(found), names), seconds=600)
    losses: dict[str, Any] = json.loads(found.read_text())
    return losses


def _marks_of(given: Combination) -> list[pytest.MarkDecorator]:
    """`make test` runs what is replicated, `make long` the same in shards; the rest is on request."""
    if given.name in FURTHER:
        return [pytest.mark.exhaustive]
    return [pytest.mark.long] if given in SHARDED else []


@pytest.mark.parametrize(
    "given",
    [pytest.param(given, id=given.name, marks=_marks_of(given)) for given in [*REPLICATED, *SHARDED]],
)
def test_two_processes_train_as_one_does(given: Combination, base: Path, of_two: dict[str, Any]):
    alone = train_combination(given, base, Ranks(0, 1, CPU))
    assert len(alone) == STEPS
    assert isinstance(of_two[given.name], list), of_two[given.name]
    assert of_two[given.name] == pytest.approx(alone, abs=TOLERANCE[given.precision])


def test_what_runs_with_all_tests_holds_every_pair():
    run = [given for given in REPLICATED if given.name not in FURTHER and not given.also]
    every = [given for given in REPLICATED if not given.also]
    for one, other in (("trains", "optimizer"), ("trains", "precision"), ("optimizer", "precision")):
        pairs = [{(getattr(given, one), getattr(given, other)) for given in some} for some in (run, every)]
        assert pairs[0] == pairs[1]


@pytest.mark.compiled
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: the column of compiled runs is left out")
@pytest.mark.parametrize("given", COMPILED, ids=lambda given: given.name)
def test_compiled_trains_as_not_compiled_does(given: Combination, base: Path):
    import torch

    torch.compiler.reset()
    one = Ranks(0, 1, CPU)
    plain = train_combination(replace(given, also=given.also.removeprefix("compile").strip()), base, one)
    assert train_combination(given, base, one) == pytest.approx(plain, abs=TOLERANCE[given.precision])
