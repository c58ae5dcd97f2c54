"""Processes that share the tokens of each micro-batch, against one process."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
import torch
from filelock import FileLock
from tests.model.flat_batches import assert_same
from tests.training.command_line import call_on_processes
from tests.training.shared_tokens import CASES, STEPS, Case, main, train_case
from tests.training.tiny import CPU

from instil.training.processes.ranks import Ranks

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def of_several(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, list[Any]]:
    """The outcomes of each case on each of its processes."""
    # The workers of a run have one parent folder; the first that comes trains for all.
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared-tokens"
    names = {item.callspec.params["case"].name for item in request.session.items if _is_case(item)}
    outcomes: dict[str, list[Any]] = {}
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            for size in sorted({case.processes for case in CASES if case.name in names}):
                call_on_processes(size, partial(main, str(folder), names), seconds=600)
    for path in sorted(folder.glob("*.pt")):
        for name, outcome in torch.load(path, weights_only=False).items():
            outcomes.setdefault(name, []).append(outcome)
    return outcomes


def _is_case(item: Any) -> bool:
    return hasattr(item, "callspec") and isinstance(item.callspec.params.get("case"), Case)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[] if case.processes == 2 else [pytest.mark.long]) for case in CASES],
)
def test_processes_that_share_tokens_train_as_one_does(case: Case, of_several: dict[str, list[Any]]):
    alone = train_case(case, Ranks(0, 1, CPU))
    assert len(alone.losses) == STEPS
    outcomes = of_several[case.name]
    assert len(outcomes) == case.processes
    for outcome in outcomes:
        assert not isinstance(outcome, str), outcome
        assert outcome.tokens == alone.tokens
        if case.precision != "fp32":
            assert outcome.losses == pytest.approx(alone.losses, abs=0.02)
            continue
        assert outcome.losses == pytest.approx(alone.losses, abs=1e-5)
        assert outcome.norms == pytest.approx(alone.norms, rel=1e-5)
        assert outcome.heldout == pytest.approx(alone.heldout, abs=1e-5)
        assert_same(outcome.gradients, alone.gradients)
        assert outcome.weights.keys() == alone.weights.keys()
        for name, weight in alone.weights.items():
            assert torch.allclose(outcome.weights[name], weight, rtol=0, atol=1e-5), name
