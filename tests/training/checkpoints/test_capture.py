from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.steps import train, weights_of
from tests.training.tiny import LearnerMaker

from instil.conversation import Example
from instil.errors import CheckpointError
from instil.training.checkpoints.capture import is_shard, piece_of, restore_optimizers, restore_weights, take_snapshot
from instil.training.checkpoints.checkpoint import Progress, open_checkpoint, save_checkpoint


def test_a_replicated_tensor_is_one_piece():
    weight = torch.arange(6.0).reshape(3, 2)
    piece = piece_of(weight)
    assert not is_shard(weight)
    assert (piece.start, piece.shape) == (0, (3, 2))
    assert torch.equal(piece.tensor, weight)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_learner_restored_from_its_snapshot_trains_to_the_same_bits(
    make_learner: LearnerMaker, examples: list[Example], tmp_path: Path, optimizer: str
):
    learner = make_learner(examples, optimizer=optimizer)
    train(learner, steps=2)
    folder = save_checkpoint(tmp_path, take_snapshot(learner, Progress(step=2), identity={"seed": 3}))
    losses = train(learner, steps=2)
    fresh = make_learner(examples, optimizer=optimizer)
    checkpoint = open_checkpoint(folder)
    restore_weights(fresh.weights, checkpoint)
    restore_optimizers(fresh, checkpoint)
    assert train(fresh, steps=2) == losses
    before, after = weights_of(learner), weights_of(fresh)
    assert len(before) > 5
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_another_model_is_refused_with_the_first_tensor_that_differs(
    make_learner: LearnerMaker, examples: list[Example], tmp_path: Path
):
    def without_last_layer(model: torch.nn.Module) -> torch.nn.Module:
        model.get_submodule("model.layers.1").requires_grad_(False)
        return model

    folder = save_checkpoint(tmp_path, take_snapshot(make_learner(examples), Progress(step=1), identity={}))
    smaller = make_learner(examples, change=without_last_layer)
    with pytest.raises(CheckpointError, match=r"the first that differs is model\.layers\.1\."):
        restore_weights(smaller.weights, open_checkpoint(folder))
