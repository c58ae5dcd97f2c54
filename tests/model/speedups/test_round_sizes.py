from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from tests.model.flat_batches import loss_of
from tests.model.tiny import random_examples, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from instil.model.loss.token_loss import TokenLoss
from instil.model.speedups.round_sizes import grain_of, round_up


def test_sizes_grow_by_little_and_there_are_few_of_them():
    sizes = range(1, 8193)
    assert all(size <= round_up(size) < size + grain_of(size) for size in sizes)
    assert all(round_up(size) <= 1.07 * size for size in sizes if size > 512)
    assert len({round_up(size) for size in sizes}) == 16 + 4 * 16
    assert round_up(0) == 0


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
    model = tiny_model("llama", num_hidden_layers=1).to(torch.bfloat16)
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
