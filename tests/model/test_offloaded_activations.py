"""What autograd saves leaves the device, once for each tensor, and the gradients keep their bits."""

from __future__ import annotations

import pytest
import torch
from tests.model.flat_batches import LENGTHS, assert_same, gradients_of, loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.model import offloaded_activations
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.loss.token_loss import TokenLoss
from instil.model.offloaded_activations import OffloadedActivations


@pytest.fixture(autouse=True)
def _also_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy on a CPU as on a GPU; small tensors too."""
    monkeypatch.setattr(offloaded_activations, "SHARED_MEMORY", frozenset())
    monkeypatch.setattr(offloaded_activations, "SMALLEST", 1)


@pytest.mark.parametrize("recompute", [False, True], ids=["all", "inputs of blocks"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe"])
def test_gradients_have_the_same_bits(name: str, recompute: bool):
    examples = random_examples(LENGTHS)
    model = tiny_model(name)
    set_gradient_checkpointing(model, recompute)
    loss_of(TokenLoss(model), examples).backward()
    plain = gradients_of(model)
    offloaded = OffloadedActivations(model)
    loss_of(TokenLoss(model), examples).backward()
    found = gradients_of(model)
    assert offloaded.count > 1
    assert len(plain) > 5
    if name == "qwen3_moe":  # copies of the experts' rows lie elsewhere in memory, and products round otherwise
        assert_same(found, plain)
    else:
        assert all(torch.equal(found[key], plain[key]) for key in plain)


def test_recomputed_blocks_leave_their_inputs_alone():
    counts, examples = {}, random_examples(LENGTHS)
    for recompute in (False, True):
        model = tiny_model("llama")
        set_gradient_checkpointing(model, recompute)
        offloaded = OffloadedActivations(model)
        loss = loss_of(TokenLoss(model), examples)
        counts[recompute] = offloaded.count
        loss.backward()
        assert offloaded.count == counts[recompute]  # nothing is copied while blocks are computed again
    assert counts[True] < counts[False] / 3


def test_a_tensor_is_copied_once_and_a_weight_never(monkeypatch: pytest.MonkeyPatch):
    model, copied = tiny_model("llama"), list[int]()
    make = offloaded_activations._Copy

    def noted(tensor: torch.Tensor) -> object:
        copied.append(tensor.untyped_storage()._cdata)
        return make(tensor)

    monkeypatch.setattr(offloaded_activations, "_Copy", noted)
    weights = {value.untyped_storage()._cdata for value in model.parameters()}
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(1) or tensor, lambda tensor: tensor):
        loss_of(TokenLoss(model), random_examples(LENGTHS))
    OffloadedActivations(model)
    monkeypatch.setattr(offloaded_activations, "_unpack", lambda kept: kept)
    loss_of(TokenLoss(model), random_examples(LENGTHS))
    assert not set(copied) & weights
    assert 10 < len(copied) < 0.7 * len(saved)


def test_a_pass_that_fails_leaves_no_hook_behind():
    model = tiny_model("llama")
    offloaded = OffloadedActivations(model)
    block = offloaded_activations.blocks_of(model)[0]
    failing = block.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss_of(TokenLoss(model), random_examples(LENGTHS))
    failing.remove()
    before = offloaded.count
    (torch.ones(4, requires_grad=True) ** 2).sum().backward()
    assert offloaded.count == before
