"""How the weights of a run lie over its processes: replicated on each, or in shards.

A run decides before it loads a weight, `instil plan` before anything runs, and both get the same answer.

Why: with `auto`, weights are sharded only if they would not fit otherwise, because gathering shards costs time in
every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from instil.training.memory.estimate import Sizes
from instil.training.memory.fit import Fit, find_fit
from instil.training.memory.usage import free_memory
from instil.training.preflight import Preflight
from instil.training.processes.ranks import Ranks
from instil.training.recipe_checks import why_no_shards_by_settings
from instil.training.shards.loading import why_whole
from instil.units import byte_size


@dataclass(frozen=True, slots=True)
class Mode:
    """How a run's weights lie over its processes.

    Attributes:
        sharded: Whether they lie in shards, not whole on each.
        fit: How its steps are cut, and the memory that needs on each process.
        words: The mode and its reason, in words.
    """

    sharded: bool
    fit: Fit
    words: str


def choose_mode(preflight: Preflight, sizes: Sizes, *, device: torch.device, free: int, num_ranks: int) -> Mode:
    """Decide `parallel.mode` as a run does: `auto` shards what would not fit, if its settings can be sharded.

    Args:
        preflight: What is known of the run.
        sizes: What its memory depends on in the model.
        device: Where each process computes.
        free: Bytes that one process has there.
        num_ranks: Number of processes.
    """
    shared = shares_tokens(preflight.recipe.parallel.sequence)

    def fit_with(*, sharded: bool) -> Fit:
        return _fit(preflight, sizes, device=device, free=free, num_ranks=num_ranks, sharded=sharded)

    requested = preflight.recipe.parallel.mode
    if num_ranks == 1:
        return Mode(False, fit_with(sharded=False), "1")
    if requested == "sharded":
        words = f"{num_ranks}, sharded: each holds its part of the model{_loading_words(preflight)}{shared}"
        return Mode(True, fit_with(sharded=True), words)
    replicated = fit_with(sharded=False)
    if requested == "replicated" or replicated.fits:
        return Mode(False, replicated, f"{num_ranks}, replicated: each holds the whole model{shared}")
    # auto, and too large to be replicated
    needs = f"the whole model would need {byte_size(replicated.memory.peak)} on each"
    reason = why_no_shards_by_settings(preflight.recipe, preflight.precision)
    if reason is not None:
        return Mode(False, replicated, f"{num_ranks}, replicated: {needs}, and shards are refused ({reason}){shared}")
    return Mode(True, fit_with(sharded=True), f"{num_ranks}, sharded: {needs}{_loading_words(preflight)}{shared}")


def shares_tokens(sequence: int) -> str:
    """Return how many processes share the tokens of a micro-batch, as the end of a line; empty if none does."""
    return "" if sequence == 1 else f"; each micro-batch is shared by {sequence}"


def _loading_words(preflight: Preflight) -> str:
    """Return that processes load the whole model before they keep a part, with the reason, where they have to."""
    reason = why_whole(preflight)
    return "" if reason is None else f"; loaded whole by each, as {reason}"


def wants_shards(preflight: Preflight, ranks: Ranks) -> bool:
    """Decide as `choose_mode` for a run that is about to start. Every process calls this and gets the same answer.

    Why: `choose_mode` also words its reason, for which it may read every row of the embedding.
    """
    mode = preflight.recipe.parallel.mode
    if ranks.size == 1 or mode == "replicated":
        return False
    if mode == "sharded" or why_no_shards_by_settings(preflight.recipe, preflight.precision) is not None:
        return mode == "sharded"
    device = ranks.device
    replicated = _fit(
        preflight, preflight.sizes(), device=device, free=free_memory(device), num_ranks=ranks.size, sharded=False
    )
    return ranks.any(not replicated.fits)


def _fit(preflight: Preflight, sizes: Sizes, *, device: torch.device, free: int, num_ranks: int, sharded: bool) -> Fit:
    """Return how the steps of a run would be cut with its weights in shards, or without."""
    return find_fit(
        preflight.workload(sizes),
        device=device,
        free=free,
        num_ranks=num_ranks,
        sequence=preflight.recipe.parallel.sequence,
        sharded=sharded,
    )
