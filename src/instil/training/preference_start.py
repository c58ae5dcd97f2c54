"""How a run that learns from preferences starts: its checks, its objective, its reference and the proof of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from instil.model.loss.preference import PreferenceLoss
from instil.recipe import Recipe
from instil.training.preflight import Preflight
from instil.training.reference import ReferencePlan, StartProof, prove_start, reference_of
from instil.training.setup import Assembled
from instil.training.step.learner import Cut, Preference


@dataclass(frozen=True, slots=True)
class PreferenceStart:
    """A learner that compares answers, and how it starts.

    Attributes:
        assembled: The model with its objective and its reference.
        reference: Where the reference comes from, in words; empty for an objective without one.
        proof: What the first answers showed.
    """

    assembled: Assembled
    reference: str
    proof: StartProof


def start_preference(preflight: Preflight, assembled: Assembled, folder: Path, *, tokens: int) -> PreferenceStart:
    """Compute or read the reference, and prove the start. Every process calls this before a checkpoint is loaded.

    Args:
        preflight: What is known of the run.
        assembled: The model with the weights that the run starts from.
        folder: The run folder, which keeps the reference.
        tokens: Tokens of a forward pass.

    Raises:
        TrainingError: If model and reference are not equal at the start.
        OutOfMemoryError: If a single example does not fit.
    """
    recipe, cut = preflight.recipe, Cut(tokens)
    loss = loss_of(recipe)
    longest = recipe.data.max_tokens
    reference, words = None, ""
    if loss.needs_reference:
        plan = ReferencePlan(
            preflight.order,
            preflight.prepared.heldout,
            loss,
            longest,
            f"{preflight.precision.name}, {recipe.model.quantize}",
        )
        folders = (folder, preflight.prepared.folder)
        reference, words = reference_of(assembled.learner, plan, cut=cut, files=folders)
    learner = replace(assembled.learner, preference=Preference(loss, reference, longest))
    exact = preflight.precision.compute == torch.float32
    proof = prove_start(learner, preflight.order, cut=cut, exact=exact)
    return PreferenceStart(replace(assembled, learner=learner), words, proof)


def loss_of(recipe: Recipe) -> PreferenceLoss:
    """Return the objective of a resolved recipe."""
    settings = recipe.preference
    assert settings.beta is not None
    return PreferenceLoss(
        recipe.training.objective,
        beta=settings.beta,
        margin=settings.margin,
        length_normalized=settings.length_normalized,
        sft_weight=settings.sft_weight,
        desirable_weight=settings.desirable_weight,
        undesirable_weight=settings.undesirable_weight,
    )
