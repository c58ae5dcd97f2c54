from __future__ import annotations

import math

import pytest
import torch
from tests.evaluation.cases import talk

from instil.evaluation.heldout import heldout_loss


def test_heldout_loss_equals_transformers_own_and_does_not_depend_on_batching(tuned, monkeypatch):
    conversations = [talk(("Say hi", "Hello you")), talk(("Capital of Peru?", "Lima"), ("Say hi", "Hi there!"))]
    found = heldout_loss(tuned, conversations)
    total = weight = 0.0
    for conversation in conversations:
        for example in tuned.chat.encode(conversation):
            ids = torch.tensor([list(example.token_ids)])
            labels = ids.where(torch.tensor([list(example.weights)]) > 0, torch.tensor(-100))
            trained = int((labels[:, 1:] != -100).sum())
            total += tuned.model(input_ids=ids, labels=labels).loss.item() * trained
            weight += trained
    assert found.loss.value == pytest.approx(total / weight, rel=1e-5)
    assert found.perplexity.value == pytest.approx(math.exp(total / weight), rel=1e-4)
    assert found.num_tokens == weight
    monkeypatch.setattr("instil.evaluation.heldout.LOGIT_BYTES", 1)
    assert heldout_loss(tuned, conversations).loss.value == pytest.approx(found.loss.value, rel=1e-6)
