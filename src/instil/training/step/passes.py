"""Forward passes over examples of a store: their share of each process, their layout, and smaller cuts.

A training step, the held-out loss and the reference of preference tuning use the same passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from instil.errors import OutOfMemoryError
from instil.model.loss.neftune import NoiseKey
from instil.model.loss.token_loss import Reweigh, TokenLoss
from instil.preparation.store import ExampleStore
from instil.training.step.learner import Cut, Learner
from instil.training.step.micro_batch import MicroBatch, cut_step, lay_flat
from instil.units import counted

NAMED_ROWS = 20
"""At most this many rows are named in a message."""


def lay_out(learner: Learner, store: ExampleStore, indices: Sequence[int]) -> MicroBatch:
    """Lay examples of a store end to end, on the learner's device."""
    return lay_flat(
        [store[index] for index in indices],
        numbers=indices,
        device=learner.ranks.device,
        whole=learner.loss.sees_every_token,
        sequence=learner.ranks.sequence,
        few_shapes=learner.loss.few_shapes,
    )


def forward(
    loss: TokenLoss, batch: MicroBatch, *, seed: int, epoch: int, reweigh: Reweigh | None = None
) -> torch.Tensor:
    """Return the loss sum of a micro-batch. NEFTune noise is keyed by seed, epoch and example, so no cut changes it.

    Args:
        loss: The model inside its loss.
        batch: The micro-batch.
        seed: The run's seed.
        epoch: The pass over the data.
        reweigh: For objectives of whole answers; see `TokenLoss.forward`.
    """
    named = zip(batch.examples, batch.example_lengths, strict=True)
    keys = [NoiseKey.of(seed, epoch, number, length=length) for number, length in named] or [NoiseKey(0, 1)]
    result = loss(
        batch.input_ids,
        batch.position_ids,
        batch.lengths,
        batch.targets,
        batch.weights,
        keys,
        reweigh,
        trained_rows=batch.trained_rows,
    )
    assert isinstance(result, torch.Tensor)
    return result


def my_share(learner: Learner, store: ExampleStore, indices: Sequence[int], cut: Cut) -> list[tuple[int, ...]]:
    """Cut examples of a store into micro-batches, and return those that this process takes part in."""
    return cut_step(
        indices,
        store.num_tokens[list(indices)].tolist(),
        micro_batch_tokens=cut.micro_batch_tokens * learner.ranks.num_sharing,
        num_ranks=learner.ranks.num_shares,
        one_by_one=learner.one_by_one,
    )[learner.ranks.share]


def smaller_cut(
    learner: Learner,
    store: ExampleStore,
    mine: Sequence[tuple[int, ...]],
    cut: Cut,
    *,
    place: str,
    remedy: str,
    so_far: str = "",
) -> Cut:
    """Return a cut with half of the largest micro-batch, after memory ran out.

    Args:
        learner: What trains.
        store: The examples.
        mine: This process's micro-batches.
        cut: The cut that did not fit.
        place: What was computed, for the message.
        remedy: What to do if a single example does not fit.
        so_far: A sentence for the message on what is unchanged, with a leading space.

    Raises:
        OutOfMemoryError: If it cannot be halved: a single example, or any micro-batch with several processes.
    """
    largest = max(mine, key=lambda numbers: int(store.num_tokens[list(numbers)].sum()))
    tokens = int(store.num_tokens[list(largest)].sum())
    if learner.ranks.size > 1 or len(largest) < 2:
        if len(largest) > 1:
            smaller = max(1, tokens // learner.ranks.num_sharing // 2)
            remedy = f"Set training.micro_batch_tokens to {smaller}, then continue with --resume."
        raise OutOfMemoryError(
            f"{place}: a forward pass over {tokens} tokens ({counted(len(largest), 'example')}) does not fit into "
            f"memory.{so_far} {remedy}"
        )
    if learner.ranks.device.type == "cuda":
        torch.cuda.empty_cache()
    return replace(cut, micro_batch_tokens=max(tokens // 2, 1))


def name_rows(store: ExampleStore, indices: Sequence[int]) -> str:
    """Return the places of examples in words; the first 20 are named."""
    places = [str(store[index].place or f"example {index}") for index in indices[:NAMED_ROWS]]
    more = len(indices) - len(places)
    return ", ".join(places) + (f" and {more} more" if more > 0 else "")
