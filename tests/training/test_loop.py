from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from tests.training.command_line import (
    exit_code,
    losses_of,
    same_bits,
    train,
    weights_of,
    without_times,
    write_recipe,
)
from tests.training.stops import stop_after

from instil.training.checkpoints.checkpoint import Progress
from instil.training.loop import _sample
from instil.training.processes.ranks import Ranks
from instil.training.records.run_folder import Run


def test_what_the_first_process_does_for_all_is_waited_for_without_a_limit(monkeypatch: pytest.MonkeyPatch):
    waited: list[Any] = []
    monkeypatch.setattr(dist, "barrier", lambda group=None: waited.append(group))
    ranks = Ranks(1, 2, torch.device("cpu"), patient=cast(Any, "patient"))
    record = SimpleNamespace(samples=lambda step, drawn: waited.append("samples"))
    learner: Any = SimpleNamespace(ranks=ranks)
    _sample(learner, Progress(), cast(Any, record), cast(Any, lambda: None))
    assert waited == ["samples", "patient"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["heldout_loss", "take_step"])
def test_a_stop_waits_for_no_evaluation_that_has_not_begun_and_for_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, reference: Run, moment: str
):
    """A signal in step 4, or in the evaluation that follows it: either way step 4 is the last one, and its evaluation is made once."""
    from instil.training import loop

    recipe = write_recipe(tmp_path, base=base, rows=rows)
    with monkeypatch.context() as patch:
        if moment == "take_step":
            stop_after(patch, 4)
        else:
            measure, calls = loop.heldout_loss, []

            def and_signal(*given: Any, **settings: Any) -> Any:
                calls.append(given)
                if len(calls) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return measure(*given, **settings)

            patch.setattr(loop, "heldout_loss", and_signal)
        assert exit_code("train", str(recipe)) == 143
    stopped = Run.open(tmp_path / "run")
    assert len(losses_of(stopped)) == 4
    assert [line["step"] for line in stopped.metrics() if "heldout_loss" in line] == (
        [0] if moment == "take_step" else [0, 4]
    )
    resumed = train(recipe, "--resume")
    assert without_times(resumed) == without_times(reference)
    assert (resumed.results["best_step"], resumed.results["steps"]) == (reference.results["best_step"], 12)
    assert same_bits(resumed, reference)


@pytest.mark.slow
def test_early_stopping_and_best_model(tmp_path: Path, base: Path, rows: Path):
    change = {
        "optimizer": {"lr": 3.0},
        "evaluate": {"every": 1, "patience": 2, "max_new_tokens": 2},
        "checkpoint": {"final": "best", "every": 4},
        "training": {"max_steps": 40},
    }
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    assert run.finished
    assert run.results["steps"] < 40
    best = min(
        (line["heldout_loss"], line["step"]) for line in run.metrics() if line["step"] and "heldout_loss" in line
    )
    assert (run.results["best_heldout_loss"], run.results["best_step"]) == best
    assert run.results["steps"] == run.results["best_step"] + 2
    from instil.training.checkpoints.checkpoint import open_checkpoint, step_folder

    kept = open_checkpoint(step_folder(run.folder / "checkpoints", run.results["best_step"]))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(kept.read("weights", name), weights_of(run)[name])
