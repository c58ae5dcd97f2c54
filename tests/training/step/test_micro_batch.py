from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.model.tiny import tiny_model

from instil.conversation import Example
from instil.model.attention.sequence import SequenceGroup
from instil.model.loss.token_loss import TokenLoss
from instil.training.step.micro_batch import cut_step, lay_flat
from instil.training.step.passes import forward


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    limit=st.integers(1, 120),
    num_ranks=st.integers(1, 4),
    one_by_one=st.booleans(),
)
def test_every_example_is_cut_exactly_once(lengths: list[int], limit: int, num_ranks: int, one_by_one: bool):
    indices = [100 + place for place in range(len(lengths))]
    shares = cut_step(indices, lengths, micro_batch_tokens=limit, num_ranks=num_ranks, one_by_one=one_by_one)
    assert len(shares) == num_ranks
    assert len({len(share) for share in shares}) == 1
    assert sorted(n for share in shares for bins in share for n in bins) == indices
    for share in shares:
        for numbers in share:
            tokens = sum(lengths[n - 100] for n in numbers)
            assert tokens <= limit or len(numbers) == 1
            assert not one_by_one or len(numbers) <= 1


def test_ranks_get_equal_loads():
    shares = cut_step(range(8), [10] * 8, micro_batch_tokens=1000, num_ranks=2)
    assert [len(share[0]) for share in shares] == [4, 4]


def test_fewer_examples_than_ranks_leaves_empty_micro_batches():
    assert cut_step([5], [10], micro_batch_tokens=100, num_ranks=3) == [[(5,)], [()], [()]]


def test_flat_layout_shifts_weights_once_and_never_across_examples():
    batch = lay_flat([Example([1, 2, 3], [0, 1, 1]), Example([4, 5], [0, 1])], numbers=[7, 9], whole=True)
    #                                      1  2  3  4  5
    assert batch.input_ids.tolist() ==    [1, 2, 3, 4, 5]  # fmt: skip
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.weights.tolist() ==      [1, 1, 0, 1, 0]  # fmt: skip
    assert [t for t, w in zip(batch.targets.tolist(), batch.weights.tolist(), strict=True) if w] == [2, 3, 5]
    assert (batch.lengths, batch.examples, batch.num_tokens, batch.num_trained) == ((3, 2), (7, 9), 5, 3)


def test_what_predicts_nothing_trained_at_an_examples_end_is_left_out():
    examples = [Example([1, 2, 3, 4], [1, 0, 1, 0]), Example([5, 6], [1, 0]), Example([7, 8], [0, 1])]
    batch = lay_flat(examples, numbers=[1, 2, 3])
    assert batch.input_ids.tolist() ==    [1, 2, 5, 7]  # fmt: skip
    assert batch.position_ids.tolist() == [0, 1, 0, 0]
    assert batch.targets.tolist() ==      [2, 3, 6, 8]  # fmt: skip
    assert batch.weights.tolist() ==      [0, 1, 0, 1]  # fmt: skip
    assert (batch.lengths, batch.example_lengths) == ((2, 1, 1), (4, 2, 2))
    assert (batch.num_tokens, batch.num_trained) == (8, 2)


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_leaving_out_changes_neither_loss_nor_gradient(alpha: float | None):
    examples = [
        Example([1, 2, 3, 4, 5, 6], [0, 1, 0, 0.5, 0, 0]),
        Example([7, 8, 9], [0, 1, 0]),
        Example([3, 4], [0, 0]),
    ]
    found = []
    for whole in (True, False):
        model = tiny_model("llama")
        loss = TokenLoss(model, neftune_alpha=alpha)
        batch = lay_flat(examples, numbers=[4, 5, 6], whole=whole)
        total = forward(loss, batch, seed=0, epoch=1)
        total.backward()
        found.append((total.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}, batch))
    (all_loss, all_gradients, all_tokens), (loss, gradients, fewer) = found
    assert len(fewer.input_ids) == 5 < len(all_tokens.input_ids) == 11
    assert loss == pytest.approx(all_loss, rel=1e-6)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, all_gradients[name], rtol=1e-4, atol=1e-6), name


def test_a_router_loss_sees_every_token():
    assert TokenLoss(tiny_model("mixtral"), router_coefficient=0.1).sees_every_token
    assert not TokenLoss(tiny_model("mixtral"), router_coefficient=0.0).sees_every_token


def test_an_empty_micro_batch_is_one_token_of_weight_zero():
    batch = lay_flat([], numbers=[])
    assert (batch.lengths, batch.weights.tolist(), batch.num_tokens, batch.num_trained) == ((1,), [0.0], 0, 0)
    assert batch.input_ids.dtype == torch.int64


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("few_shapes", [False, True])
def test_parts_of_shared_tokens_are_the_whole_and_its_filling(size: int, few_shapes: bool):
    examples = [Example([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 0.5, 1, 1, 1]), Example([8, 9, 8], [0, 1, 1])]
    whole = lay_flat(examples, numbers=[4, 5])
    groups = [SequenceGroup(rank, size, cast(Any, None)) for rank in range(size)]
    parts = [lay_flat(examples, numbers=[4, 5], sequence=group, few_shapes=few_shapes) for group in groups]
    assert len({part.input_ids.shape[0] for part in parts}) == 1
    assert {part.lengths for part in parts} == {whole.lengths}
    num_computed = sum(whole.lengths)
    for name in ("input_ids", "position_ids", "targets", "weights"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert together[:num_computed].tolist() == getattr(whole, name).tolist(), name
    filling = torch.cat([part.weights for part in parts])[num_computed:]
    assert filling.numel() == parts[0].input_ids.shape[0] * size - num_computed
    assert not filling.any()
    assert sum(part.num_trained for part in parts) == whole.num_trained
    for part in parts:
        assert part.trained_rows.tolist() == torch.nonzero(part.weights).squeeze(1).tolist()


def test_the_last_token_of_a_part_predicts_the_first_of_the_next():
    groups = [SequenceGroup(rank, 2, cast(Any, None)) for rank in range(2)]
    first, second = (
        lay_flat([Example([1, 2, 3, 4, 5], [0, 1, 1, 1, 1])], numbers=[0], sequence=group) for group in groups
    )
    assert (first.input_ids.tolist(), first.targets.tolist()) == ([1, 2], [2, 3])
    assert (second.input_ids.tolist(), second.targets.tolist()) == ([3, 4], [4, 5])
    assert second.position_ids.tolist() == [2, 3]
