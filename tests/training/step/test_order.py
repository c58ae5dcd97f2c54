from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instil.errors import TrainingError
from instil.training.step.order import epoch_permutation, plan_order, step_seed


@given(num_examples=st.integers(1, 60), batch_size=st.integers(1, 17), epochs=st.integers(1, 3), seed=st.integers(0, 5))
def test_each_epoch_sees_every_example_exactly_once(num_examples: int, batch_size: int, epochs: int, seed: int):
    order = plan_order(num_examples, batch_size=batch_size, epochs=epochs, seed=seed)
    seen: dict[int, list[int]] = {}
    for step in range(1, order.num_steps + 1):
        members = order.members(step)
        assert 1 <= len(members.indices) <= batch_size
        seen.setdefault(members.epoch, []).extend(members.indices)
    assert sorted(seen) == list(range(epochs))
    assert all(sorted(indices) == list(range(num_examples)) for indices in seen.values())
    assert order.num_seen == num_examples * epochs


def test_epochs_differ_and_repeat_with_the_seed():
    first, second = (epoch_permutation(50, seed=1, epoch=e, shuffle=True).tolist() for e in (0, 1))
    assert first != second
    assert first == epoch_permutation(50, seed=1, epoch=0, shuffle=True).tolist()
    assert first != epoch_permutation(50, seed=2, epoch=0, shuffle=True).tolist()


def test_the_order_is_the_same_on_every_machine_and_version():
    assert epoch_permutation(8, seed=0, epoch=0, shuffle=True).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@pytest.mark.parametrize(
    ("epochs", "sizes"),
    [(1.0, [4, 4, 2]), (0.5, [4, 1]), (1.25, [4, 4, 2, 3]), (0.01, [1]), (2.0, [4, 4, 2, 4, 4, 2])],
)
def test_a_fraction_of_an_epoch_takes_that_share(epochs: float, sizes: list[int]):
    order = plan_order(10, batch_size=4, epochs=epochs)
    assert [len(order.members(step).indices) for step in range(1, order.num_steps + 1)] == sizes
    assert order.num_seen == sum(sizes)


def test_max_steps_wins_and_goes_on_over_epochs():
    order = plan_order(5, batch_size=2, epochs=1, max_steps=7, shuffle=False)
    assert [order.members(step).indices for step in range(1, 8)] == [
        (0, 1), (2, 3), (4,), (0, 1), (2, 3), (4,), (0, 1),
    ]  # fmt: skip


def test_no_example_is_an_error():
    with pytest.raises(TrainingError, match="no example is left"):
        plan_order(0, batch_size=2)


def test_no_step_is_an_error():
    with pytest.raises(TrainingError, match=r"training\.epochs: 1e-09 of 10 examples is no example"):
        plan_order(10, batch_size=4, epochs=1e-9)


def test_step_seeds_differ_by_seed_step_and_rank():
    seeds = {step_seed(s, step=t, rank=r) for s in range(3) for t in range(3) for r in range(3)}
    assert len(seeds) == 27


def test_examples_of_a_run_are_counted_without_walking_over_its_steps():
    for steps in range(1, 9):
        order = plan_order(10, batch_size=4, max_steps=steps)
        assert order.num_seen == sum(len(order.members(step).indices) for step in range(1, steps + 1))
    assert plan_order(10, batch_size=4, max_steps=3 * 10**15).num_seen == 10**16
