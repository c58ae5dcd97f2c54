from __future__ import annotations

import pytest
from tests.training.steps import BIG, FailsOnce
from tests.training.tiny import LearnerMaker

from instil.conversation import Example
from instil.errors import OutOfMemoryError
from instil.training.step.heldout import heldout_loss
from instil.training.step.learner import Cut


@pytest.mark.parametrize("cut", [1, 30, BIG])
def test_heldout_loss_does_not_depend_on_the_cut(make_learner: LearnerMaker, examples: list[Example], cut: int):
    learner = make_learner(examples, neftune_alpha=5.0, dropout=0.5)
    reference = heldout_loss(learner, learner.store, cut=Cut(17))
    assert heldout_loss(learner, learner.store, cut=Cut(cut)) == pytest.approx(reference, abs=1e-6)
    assert learner.loss.training


def test_out_of_memory_in_an_evaluation_halves_its_cut(make_learner: LearnerMaker, examples: list[Example]):
    learner = make_learner(examples)
    whole = heldout_loss(learner, learner.store, cut=Cut(BIG))
    longest = max(len(example.token_ids) for example in examples)
    tight = FailsOnce(learner, limit=longest)
    assert heldout_loss(learner, learner.store, cut=Cut(BIG)) == pytest.approx(whole, abs=1e-6)
    tight.limit = longest // 2
    with pytest.raises(
        OutOfMemoryError, match=r"held-out loss: .* tokens \(1 example\).*Start another run .*max_tokens lower\.$"
    ):
        heldout_loss(learner, learner.store, cut=Cut(BIG))
    assert learner.loss.training
