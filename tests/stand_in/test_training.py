"""Training on the stand-in: the losses of the CPU, and at most two waits a step."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stand_in.device import NAME
from tests.stand_in.running import on_stand_in, record_calls, waits_of
from tests.training.command_line import exit_code, losses_of, same_bits, train, write_recipe
from tests.training.pairs import make_pairs
from tests.training.stops import rewind

from instil.training.records.run_folder import Run

MOST_WAITS = 2
"""Of a step: one for its loss and norm, and one for the end of its update, which is timed."""
SHORT: dict[str, Any] = {
    "training": {"max_steps": 4},
    "evaluate": {"every": 2, "max_new_tokens": 3},
    "checkpoint": {"every": 2},
}
CLIPPED: dict[str, Any] = {"optimizer": {"clip": 0.1}}
CASES: dict[str, dict[str, Any]] = {
    "full": CLIPPED,
    "many micro-batches": {"training": {"micro_batch_tokens": 40, "gradient_checkpointing": "on"}},
    "LoRA and NEFTune": {
        **CLIPPED,
        "adapter": {"kind": "lora", "rank": 4, "dropout": 0.2},
        "training": {"neftune_alpha": 5.0, "micro_batch_tokens": 60},
    },
}
HALF: dict[str, dict[str, Any]] = {
    "bf16 with masters": {**CLIPPED, "training": {"precision": "bf16"}},
    "pure bf16": {"training": {"precision": "pure_bf16"}},
}


def trained(folder: Path, *changes: dict[str, Any], base: Path, rows: Path) -> dict[str, Any]:
    """Train on the stand-in; return its losses, the waits of each step and those of each held-out loss."""

    def work(device: torch.device) -> dict[str, Any]:
        from instil.training import loop

        steps, evaluations = record_calls(loop, "take_step"), record_calls(loop, "heldout_loss")
        run = train(write_recipe(folder, SHORT, *changes, {"device": NAME}, base=base, rows=rows), "--traceback")
        return {
            "losses": losses_of(run),
            "norms": [line["gradient_norm"] for line in run.metrics() if "loss" in line],
            "heldout": run.results.get("heldout_loss"),
            "steps": steps,
            "evaluations": evaluations,
        }

    told: dict[str, Any] = on_stand_in(work)
    return told


def on_cpu(folder: Path, *changes: dict[str, Any], base: Path, rows: Path) -> Run:
    return train(write_recipe(folder, SHORT, *changes, {"device": "cpu"}, base=base, rows=rows))


def there_and_here(folder: Path, change: dict[str, Any], *, base: Path, rows: Path) -> tuple[dict[str, Any], Run]:
    """Train on the device and on the CPU; return what the first told, and the other run."""
    return trained(folder / "there", change, base=base, rows=rows), on_cpu(
        folder / "here", change, base=base, rows=rows
    )


def check_waits(told: dict[str, Any]) -> None:
    """Check that no step waits too often. The first one may: an optimizer makes its state."""
    assert len(told["steps"]) == 4
    for crossings in told["steps"]:
        assert len(waits_of(crossings)) <= MOST_WAITS, "\n".join(waits_of(crossings))


FURTHER = ("many micro-batches", "pure bf16")
"""What `make test` leaves to `make long`."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in FURTHER else name for name in CASES]
)
def test_a_run_has_the_losses_of_the_cpu_and_waits_twice_a_step(tmp_path: Path, base: Path, rows: Path, name: str):
    told, here = there_and_here(tmp_path, CASES[name], base=base, rows=rows)
    assert told["losses"] == pytest.approx(losses_of(here), abs=1e-5)
    assert told["heldout"] == pytest.approx(here.results["heldout_loss"], abs=1e-5)
    assert all(norm > 0.1 for norm in told["norms"])
    check_waits(told)
    assert len(told["evaluations"]) == 3
    assert [len(waits_of(crossings)) for crossings in told["evaluations"]] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in FURTHER else name for name in HALF]
)
def test_half_precision_waits_twice_a_step_too(tmp_path: Path, base: Path, rows: Path, name: str):
    """A CPU computes attention in bf16 by products of its own, so the losses are equal to bf16's rounding."""
    told, here = there_and_here(tmp_path, HALF[name], base=base, rows=rows)
    assert told["losses"] == pytest.approx(losses_of(here), abs=3e-3)
    check_waits(told)


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path, base: Path, rows: Path):
    def work(device: torch.device) -> dict[str, Any]:
        from instil.training import loop

        whole = train(write_recipe(tmp_path / "whole", SHORT, {"device": NAME}, base=base, rows=rows))
        recipe = write_recipe(tmp_path / "stopped", SHORT, {"device": NAME}, base=base, rows=rows)
        take_step = loop.take_step

        def and_signal(learner: Any, members: Any, **settings: Any) -> Any:
            if members.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return take_step(learner, members, **settings)

        loop.take_step = and_signal  # type: ignore[assignment]
        code = exit_code("train", str(recipe))
        loop.take_step = take_step
        stopped_after = len(losses_of(Run.open(tmp_path / "stopped" / "run")))
        resumed = train(recipe, "--resume")
        return {
            "code": code,
            "stopped_after": stopped_after,
            "losses": [losses_of(whole), losses_of(resumed)],
            "same": same_bits(whole, resumed),
        }

    told = on_stand_in(work)
    assert (told["code"], told["stopped_after"]) == (143, 3)
    assert told["losses"][0] == told["losses"][1]
    assert told["same"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_offloaded_optimizer_has_its_state_on_the_cpu_between_steps_and_the_same_bits(
    tmp_path: Path, base: Path, rows: Path, optimizer: str
):
    """Weights and gradients stay on the device, where the state is while it is used: others would raise."""
    change: dict[str, Any] = {"optimizer": {"name": optimizer}, "parallel": {"offload": "optimizer"}}

    def work(device: torch.device) -> dict[str, Any]:
        from instil.training import loop
        from instil.training.step import optimizer as building

        building.BUCKET = 3000
        take_step, places, counts = loop.take_step, set[str](), list[int]()

        def and_look(learner: Any, members: Any, **settings: Any) -> Any:
            for when in ("before", "after"):
                if when == "after":
                    result = take_step(learner, members, **settings)
                states = [state for one in learner.optimizers for state in one.state.values()]
                values = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
                places.update(value.device.type for value in values if value.numel() >= 1024)
                assert {weight.device.type for weight in learner.weights.by_name.values()} == {NAME}
            counts.append(len(learner.optimizers))
            return result

        plain = {**change, "parallel": {"offload": "none"}}
        here = train(write_recipe(tmp_path / "plain", SHORT, plain, {"device": NAME}, base=base, rows=rows))
        loop.take_step = and_look  # type: ignore[assignment]
        run = train(write_recipe(tmp_path / "run", SHORT, change, {"device": NAME}, base=base, rows=rows))
        recipe = write_recipe(tmp_path / "again", SHORT, change, {"device": NAME}, base=base, rows=rows)
        rewind(run, 2, tmp_path / "again" / "run")
        again = train(recipe, "--resume")
        return {
            "places": sorted(places),
            "optimizers": counts,
            "losses": [losses_of(here), losses_of(run)],
            "same": [same_bits(here, run), same_bits(again, run)],
        }

    told = on_stand_in(work)
    assert told["places"] == ["cpu"]
    assert min(told["optimizers"]) > 2
    assert len(told["optimizers"]) == 6
    assert told["losses"][0] == told["losses"][1]
    assert told["same"] == [True, True]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("recompute", [pytest.param("off", marks=pytest.mark.long), "on"])
def test_offloaded_activations_are_on_the_cpu_between_the_passes_and_change_no_loss(
    tmp_path: Path, base: Path, rows: Path, recompute: str
):
    def work(device: torch.device) -> dict[str, Any]:
        from instil.model import offloaded_activations

        training = {"max_steps": 2, "gradient_checkpointing": recompute, "micro_batch_tokens": 60}
        settings = {"training": training, "evaluate": {"every": 2, "max_new_tokens": 1}, "device": NAME}
        make, places = offloaded_activations._Copy, set[tuple[str, str]]()

        class Noted(make):  # type: ignore[misc, valid-type]
            def __init__(self, tensor: torch.Tensor) -> None:
                super().__init__(tensor)
                places.add((tensor.device.type, self.host.device.type))

        offloaded_activations._Copy = Noted  # type: ignore[misc]
        here = train(write_recipe(tmp_path / "plain", settings, base=base, rows=rows))
        none = sorted(places)
        on = {"training": {**training, "offload_activations": "on"}}
        run = train(write_recipe(tmp_path / "run", settings, on, base=base, rows=rows))
        return {"none": none, "places": sorted(places), "losses": [losses_of(here), losses_of(run)]}

    told = on_stand_in(work)
    assert told["none"] == []
    assert told["places"] == [[NAME, "cpu"]]
    assert told["losses"][0] == told["losses"][1]


@pytest.mark.slow
@pytest.mark.long
def test_preferences_have_the_losses_of_the_cpu(tmp_path: Path, base: Path):
    """Their losses and counts are read apart from the norm: one wait more than other steps have."""
    change = {
        "training": {"max_steps": 4, "batch_size": 4, "objective": "dpo"},
        "optimizer": {"lr": 2e-3},
    }
    pairs = make_pairs(tmp_path / "pairs.jsonl")
    told = trained(tmp_path / "there", change, base=base, rows=pairs)
    here = on_cpu(tmp_path / "here", change, base=base, rows=pairs)
    assert told["losses"] == pytest.approx(losses_of(here), abs=1e-5)
    for crossings in told["steps"]:
        assert len(waits_of(crossings)) <= MOST_WAITS + 1, "\n".join(waits_of(crossings))
