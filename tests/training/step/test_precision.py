from __future__ import annotations

import torch
from tests.training.steps import train
from tests.training.tiny import LearnerMaker

from instil.conversation import Example


def test_masters_stay_fp32_and_the_model_is_their_rounding(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples, precision="bf16")
    train(learner, steps=3)
    parameters = dict(learner.loss.model.named_parameters())
    for name, master in learner.weights.by_name.items():
        assert master.dtype == torch.float32
        assert torch.equal(parameters[name], master.to(torch.bfloat16)), name
    assert {buffer.dtype for buffer in learner.loss.model.buffers()} == {torch.float32}
