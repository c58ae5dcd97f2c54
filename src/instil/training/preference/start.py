"""How a run that learns from preferences starts: its objective, its reference and the proof of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instil.model.loss.preference import PreferenceLoss
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.preference.reference import ReferencePlan, StartProof, prove_start, reference_of
from instil.training.step.learner import Cut, Learner, Preference
from instil.training.step.order import Order


@dataclass(frozen=True, slots=True)
class PreferenceStart:
    """A learner that compares answers, and how it starts.

    Attributes:
        learner: The learner with its objective and its reference.
        reference: Where the reference comes from, in words; empty for an objective without one.
        proof: What the first answers showed.
    """

    learner: Learner
    reference: str
    proof: StartProof


def start_preference(
    learner: Learner,
    recipe: Recipe,
    *,
    order: Order,
    heldout: ExampleStore,
    cut: Cut,
    exact: bool,
    folders: Sequence[Path],
) -> PreferenceStart:
    """Compute or read the reference, and prove the start. Every process calls this before a checkpoint is loaded.

    Args:
        learner: The model with the weights that the run starts from.
        recipe: The resolved recipe.
        order: The steps of the run.
        heldout: The held-out examples.
        cut: How the passes are cut.
        exact: Whether the run computes in fp32.
        folders: Where the reference is kept: the run folder, then the folder of the prepared data.

    Raises:
        TrainingError: If model and reference are not equal at the start.
        OutOfMemoryError: If a single example does not fit.
    """
    loss, longest = loss_of(recipe), recipe.data.max_tokens
    kept = None
    if loss.needs_reference:
        precision = f"{recipe.training.precision}, {recipe.model.quantize}"
        plan = ReferencePlan(order, heldout, loss, longest, precision)
        kept = reference_of(learner, plan, cut=cut, folders=folders)
    reference, words, paths = (None, "", ()) if kept is None else (kept.reference, kept.words, kept.paths)
    learner = replace(learner, preference=Preference(loss, reference, longest))
    return PreferenceStart(learner, words, prove_start(learner, order, cut=cut, exact=exact, paths=paths))


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
