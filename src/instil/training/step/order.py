"""Which examples are in which step, from the recipe alone.

Examples are assigned to optimizer steps by number of examples, batch size, length of the run, seed and shuffle.
Devices, memory and micro-batches play no part, so the same recipe gives the same steps on any machine.

Why: the last step of an epoch is smaller, instead of being filled from the next epoch. An example is thus seen exactly
once per epoch. The loss is a mean over trained weight, so a small step counts as one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from instil.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Members:
    """The examples of one optimizer step.

    Attributes:
        step: The step, counted from 1.
        epoch: Its pass over the data, counted from 0.
        indices: Numbers of the examples in the store, in their order.
    """

    step: int
    epoch: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The order of the examples of a run, or of its pairs.

    Attributes:
        num_examples: Examples in the store; where pairs are compared, pairs.
        batch_size: Examples or pairs of a step, over all devices.
        num_steps: Optimizer steps of the run.
        last_epoch: Examples or pairs of the last epoch if the number of epochs is a fraction; else `num_examples`.
        seed: Seed of the permutations.
        shuffle: Whether each epoch draws its own permutation.
        together: Examples of the store that are drawn together: 2 where pairs are compared, else 1.
    """

    num_examples: int
    batch_size: int
    num_steps: int
    last_epoch: int
    seed: int
    shuffle: bool
    together: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one full pass over the data."""
        return math.ceil(self.num_examples / self.batch_size)

    @property
    def unit(self) -> str:
        """What is counted: ``example`` or ``pair``."""
        return "pair" if self.together == 2 else "example"

    @property
    def num_seen(self) -> int:
        """Examples seen in the run, counting repeats."""
        return self.seen_until(self.num_steps)

    def seen_until(self, step: int) -> int:
        """Return the examples seen in the steps up to one of them, itself included, counting repeats.

        Example:
            >>> order = plan_order(5, batch_size=2, epochs=2)
            >>> [order.seen_until(step) for step in (1, 3, 4, 6)]
            [2, 5, 7, 10]
        """
        whole = (step - 1) // self.steps_per_epoch
        return whole * self.num_examples + self._range(step)[1]

    def members(self, step: int) -> Members:
        """Return the examples of a step.

        Args:
            step: From 1 to `num_steps`.

        Example:
            >>> order = plan_order(5, batch_size=2, epochs=2, shuffle=False)
            >>> [order.members(step).indices for step in range(1, 7)]
            [(0, 1), (2, 3), (4,), (0, 1), (2, 3), (4,)]
            >>> plan_order(3, batch_size=2, shuffle=False, together=2).members(1).indices
            (0, 1, 2, 3)
        """
        epoch = (step - 1) // self.steps_per_epoch
        permutation = epoch_permutation(self.num_examples, seed=self.seed, epoch=epoch, shuffle=self.shuffle)
        start, stop = self._range(step)
        drawn = permutation[start:stop, None] * self.together + np.arange(self.together)
        return Members(step, epoch, tuple(drawn.ravel().tolist()))

    def _range(self, step: int) -> tuple[int, int]:
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        last = (self.num_steps - 1) // self.steps_per_epoch
        end = self.last_epoch if epoch == last else self.num_examples
        start = within * self.batch_size
        return start, min(start + self.batch_size, end)


def plan_order(
    num_examples: int,
    *,
    batch_size: int,
    epochs: float = 1.0,
    max_steps: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    together: int = 1,
) -> Order:
    """Plan the steps of a run.

    A fraction of an epoch takes that share of the examples, rounded up. `max_steps` takes precedence over `epochs` and
    continues over as many epochs as it needs.

    Args:
        num_examples: Examples in the store, at least one.
        batch_size: Examples of a step, over all devices.
        epochs: Passes over the data, > 0.
        max_steps: Exact number of steps.
        seed: Seed of the permutations.
        shuffle: Whether to draw a new order each epoch; false keeps the order of the store.
        together: Examples of the store that are drawn together (see `Order`).

    Returns:
        The order.

    Raises:
        TrainingError: If there is no example or no step.

    Example:
        >>> plan_order(10, batch_size=4, epochs=1.5).num_steps
        5
    """
    what = "pair" if together == 2 else "example"
    if num_examples < 1:
        raise TrainingError(f"training data: no {what} is left to train on. Expected at least one. See the ledger.")
    per_epoch = math.ceil(num_examples / batch_size)
    if max_steps is not None:
        return Order(num_examples, batch_size, max_steps, num_examples, seed, shuffle, together)
    whole = int(epochs)
    rest = math.ceil(round((epochs - whole) * num_examples, 6))
    num_steps = whole * per_epoch + math.ceil(rest / batch_size)
    if num_steps < 1:
        raise TrainingError(
            f"training.epochs: {epochs:g} of {num_examples} {what}s is no {what}. "
            "Expected at least one step. Set it higher."
        )
    return Order(num_examples, batch_size, num_steps, rest or num_examples, seed, shuffle, together)


@lru_cache(maxsize=2)
def epoch_permutation(num_examples: int, *, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of the examples in one epoch.

    Sorts random keys of a PCG64 stream instead of calling numpy's `permutation`. numpy guarantees the bits of its
    streams for all versions, but not the results of its methods.

    Example:
        >>> epoch_permutation(4, seed=0, epoch=0, shuffle=False).tolist()
        [0, 1, 2, 3]
    """
    if not shuffle:
        return np.arange(num_examples, dtype=np.int64)
    keys = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(num_examples)
    return np.argsort(keys, kind="stable").astype(np.int64)


def step_seed(seed: int, *, step: int, rank: int = 0) -> int:
    """Return the seed of the random numbers of one step on one rank.

    Every step seeds its generators with it. The random state is therefore a function of recipe and step, and need not
    be stored. A step that is repeated or resumed draws the same numbers.

    Example:
        >>> step_seed(0, step=1) == step_seed(0, step=1), step_seed(0, step=1) == step_seed(0, step=2)
        (True, False)
    """
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]) >> 1
