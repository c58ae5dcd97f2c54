"""Every architecture's blocks under torch.compile, with this package's norms and gates in them, against the same not compiled."""

from __future__ import annotations

import shutil

import pytest
import torch
from tests.model.tiny import ARCHITECTURES, MIXING, random_examples, tiny_model
from tests.training.tiny import CPU

from instil.model.attention.layout import positions_of
from instil.model.loading import lighten_layers
from instil.model.loss.token_loss import TokenLoss
from instil.training.compiling import compile_blocks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.compiled,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: compiled architectures are left out"),
]
LENGTHS = [9, 14, 5]
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_compiled_blocks_give_the_same_loss_and_gradients(name: str):
    _compare(name, LENGTHS)


@pytest.mark.parametrize("name", sorted(MIXING))
def test_compiled_blocks_that_mix_examples_do_so_with_one_example(name: str):
    _compare(name, LENGTHS[:1])


def _compare(name: str, lengths: list[int]) -> None:
    torch.compiler.reset()
    ids = torch.cat([one for one, _ in random_examples(lengths)])
    weights = torch.cat([each for _, each in random_examples(lengths)])
    found = []
    for compiled in (False, True):
        model = tiny_model(name)
        lighten_layers(model, CPU)
        if compiled:
            assert compile_blocks(model) > 0
        loss = TokenLoss(model)(ids, positions_of(lengths), tuple(lengths), ids.roll(-1), weights, [])
        loss.backward()
        found.append((loss.detach(), [each.grad for each in model.parameters() if each.grad is not None]))
    (plain, gradients), (fused, of_fused) = found
    torch.testing.assert_close(fused, plain, rtol=TOLERANCE, atol=TOLERANCE)
    assert len(gradients) == len(of_fused) > 0
    torch.testing.assert_close(of_fused, gradients, rtol=TOLERANCE, atol=TOLERANCE)
