"""How the weights of a run lie over its processes: whole on each, or in shards.

`run` asks before it loads a weight, `plan` before anything runs, and both get the same answer. Questionable on purpose: with `auto` shards
are taken only where the weights would not fit whole, because gathering them costs time in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from instil.training.memory.estimate import Sizes
from instil.training.memory.fit import Fit, find_fit
from instil.training.memory.usage import free_memory
from instil.training.preflight import Studied
from instil.training.processes.ranks import Ranks
from instil.training.step.sharding import why_no_shards
from instil.units import byte_size


@dataclass(frozen=True, slots=True)
class Mode:
    """How a run's weights lie over its processes.

    Attributes:
        sharded: In shards over the processes, not whole on each.
        fit: How its steps are cut then, and what that needs on each.
        words: Which mode it is, and why, for people.
    """

    sharded: bool
    fit: Fit
    words: str


def choose_mode(studied: Studied, sizes: Sizes, *, device: torch.device, free: int, num_ranks: int) -> Mode:
    """Decide `parallel.mode` as a run does: `auto` shards what would not fit whole, where sharding is built for it.

    Args:
        studied: What is known of the run.
        sizes: What its memory depends on.
        device: Where each process computes.
        free: Bytes that one process has there.
        num_ranks: Number of processes.
    """
    recipe = studied.recipe

    def fit_of(sharded: bool) -> Fit:
        return find_fit(
            recipe,
            sizes,
            studied.precision,
            store=studied.prepared.train,
            order=studied.order,
            device=device,
            free=free,
            num_ranks=num_ranks,
            sharded=sharded,
        )

    if num_ranks == 1:
        return Mode(False, fit_of(False), "1")
    reason = _why_no_shards(studied)
    if recipe.parallel.mode == "sharded":
        return Mode(True, fit_of(True), f"{num_ranks}, sharded: each holds its part of the model")
    whole = fit_of(False)
    if recipe.parallel.mode == "replicated" or whole.fits:
        return Mode(False, whole, f"{num_ranks}, replicated: each holds the whole model")
    needs = f"the whole model would need {byte_size(whole.memory.peak)} on each"
    if reason is not None:
        return Mode(False, whole, f"{num_ranks}, replicated: {needs}, and shards are refused ({reason})")
    return Mode(True, fit_of(True), f"{num_ranks}, sharded: {needs}")


def wants_shards(studied: Studied, ranks: Ranks) -> bool:
    """Decide for a run that is about to start; all processes give the same answer."""
    mode = studied.recipe.parallel.mode
    if ranks.size == 1 or mode == "replicated":
        return False
    reason = _why_no_shards(studied)
    if mode == "sharded" or reason is not None:
        return mode == "sharded"
    sizes, free = studied.sizes(), free_memory(ranks.device)
    chosen = choose_mode(studied, sizes, device=ranks.device, free=free, num_ranks=ranks.size)
    return ranks.any(chosen.sharded)


def _why_no_shards(studied: Studied) -> str | None:
    recipe = studied.recipe
    return why_no_shards(studied.precision, optimizer=recipe.optimizer.name, quantize=recipe.model.quantize)
