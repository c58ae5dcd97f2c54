"""Whole runs of the embedded base model: what it is taught it says, and neither the cut nor an interruption changes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from instil.conversation import Conversation, Message
from instil.generation.engine import Engine
from instil.recipe import Recipe
from instil.training import loop
from instil.training.records.due import Due
from instil.training.records.run_folder import Run
from instil.training.run import train

NAMES = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas",
    "Lena", "Max", "Nora", "Paul", "Peru", "Norway", "Kenya", "iron", "gold", "silver",
]  # fmt: skip
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "brown", "pink", "grey", "orange"]
FACTS = [(f"Which colour does {name} like?", f"It is {COLOURS[index % 10]}.") for index, name in enumerate(NAMES)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(folder: Path, **training: Any) -> Recipe:
    rows = folder / "rows.jsonl"
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in FACTS]
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recipe.from_mapping(
        {
            "output": str(folder / "run"),
            "model": {"name": "demo"},
            "data": {"sources": [str(rows)], "heldout_share": 0, "store": str(folder / "store")},
            "training": {"batch_size": 10, "precision": "fp32", "micro_batch_tokens": 4096, **training},
            "optimizer": {"lr": 2e-3, "schedule": "constant", "warmup": 3},
            "evaluate": {"every": 1000, "at_start": False, "max_new_tokens": 8},
        }
    )


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model_folder / "model.safetensors")


def losses_of(run: Run) -> list[float]:
    return [line["loss"] for line in run.metrics() if "loss" in line]


@pytest.mark.slow
def test_twenty_conversations_are_memorised_and_said(tmp_path):
    run = train(recipe_of(tmp_path, max_steps=100), quiet=True)
    engine = Engine.load(run.folder)
    answers = engine.answer([Conversation((Message("user", question),)) for question, _ in FACTS])
    assert [answer.text for answer in answers] == [answer for _, answer in FACTS]
    assert {answer.generated.finish_reason for answer in answers} == {"stop"}


@pytest.mark.slow
def test_two_cuts_give_the_same_weights(tmp_path):
    whole = train(recipe_of(tmp_path / "whole", max_steps=4), quiet=True)
    cut = train(recipe_of(tmp_path / "cut", max_steps=4, micro_batch_tokens=40), quiet=True)
    assert losses_of(cut) == pytest.approx(losses_of(whole), rel=1e-5)
    ours, theirs = weights_of(cut), weights_of(whole)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_flat_loss_equals_one_by_one(tmp_path):
    flat = train(recipe_of(tmp_path / "flat", max_steps=1), quiet=True)
    alone = train(recipe_of(tmp_path / "alone", max_steps=1, micro_batch_tokens=8), quiet=True)
    assert losses_of(alone) == pytest.approx(losses_of(flat), rel=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_resuming_gives_the_bits_of_a_run_never_stopped(tmp_path, monkeypatch):
    whole = train(recipe_of(tmp_path / "whole", max_steps=6), quiet=True)
    recipe = recipe_of(tmp_path / "stopped", max_steps=6)
    with monkeypatch.context() as patch:
        patch.setattr(Due, "saves", lambda self, step: True)
        take_step = loop.take_step

        def three_steps(learner: Any, members: Any, **settings: Any) -> Any:
            if members.step == 4:
                raise RuntimeError("the plug is pulled")
            return take_step(learner, members, **settings)

        patch.setattr(loop, "take_step", three_steps)
        with pytest.raises(RuntimeError, match="plug"):
            train(recipe, quiet=True)
    resumed = train(recipe, resume=True, quiet=True)
    assert losses_of(resumed) == losses_of(whole)
    ours, theirs = weights_of(resumed), weights_of(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
