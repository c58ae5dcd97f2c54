from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from tests.model.test_architectures import MIXTURES, assert_same, gradients_of, loss_of
from tests.model.tiny import ARCHITECTURES, MIXING, random_examples, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from instil.model.attention.layout import positions_of
from instil.model.loss.neftune import NoiseKey
from instil.model.loss.token_loss import TokenLoss, targets_of
from instil.model.speedups.round_sizes import grain_of, round_up


def test_sizes_grow_by_little_and_there_are_few_of_them():
    sizes = range(1, 8193)
    assert all(size <= round_up(size) < size + grain_of(size) for size in sizes)
    assert all(round_up(size) <= 1.07 * size for size in sizes if size > 512)
    assert len({round_up(size) for size in sizes}) == 16 + 4 * 16
    assert round_up(0) == 0


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MIXING])
def test_filling_up_changes_neither_loss_nor_gradients(name: str):
    model = tiny_model(name)
    router = 0.1 if name in MIXTURES else None
    examples = random_examples([9] if name in MIXING else [9, 1, 12])
    results = []
    for few_shapes in (False, True):
        loss = loss_of(TokenLoss(model, router_coefficient=router, few_shapes=few_shapes), examples)
        loss.backward()
        results.append((loss.detach(), gradients_of(model)))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-6)
    assert_same(results[1][1], results[0][1])


def test_filling_up_leaves_the_noise_of_the_examples_alone():
    model = tiny_model("llama")
    examples = random_examples([9, 12])
    lengths = [9, 12]
    ids = torch.cat([ids for ids, _ in examples])
    targets, weights = targets_of(ids, torch.cat([weights for _, weights in examples]), lengths)
    keys = [NoiseKey.of(0, 0, number, length=length) for number, length in enumerate(lengths)]
    batch = (ids, positions_of(lengths), lengths, targets, weights, keys)
    plain = TokenLoss(tiny_model("llama"), neftune_alpha=5.0).train()(*batch)
    filled = TokenLoss(model, neftune_alpha=5.0, few_shapes=True).train()(*batch)
    assert torch.allclose(plain, filled, rtol=1e-6)


class ShapesOfProducts(TorchDispatchMode):
    """Counts the shapes of half-precision matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "addmm_"):
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            if tensors[0].dtype == torch.bfloat16:
                self.found[tuple((tuple(value.shape), value.stride()) for value in tensors)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("few_shapes", [False, True])
def test_a_bf16_run_asks_a_cpu_for_few_shapes(few_shapes: bool):
    """oneDNN keeps code for every shape as long as the process lives."""
    model = tiny_model("llama").to(torch.bfloat16)
    module = TokenLoss(model, few_shapes=few_shapes)
    draw = random.Random(0)

    def shapes_of(num_batches: int) -> int:
        with ShapesOfProducts() as products:
            for _ in range(num_batches):
                lengths = [draw.randint(3, 100) for _ in range(draw.randint(2, 6))]
                loss_of(module, random_examples(lengths, seed=draw.randint(0, 10**6))).backward()
        return len(products.found)

    few, many = shapes_of(8), shapes_of(80)
    if few_shapes:
        assert many < 400
        assert many < 2.5 * few
    else:
        assert many > 3 * few
