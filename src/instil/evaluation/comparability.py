"""Which figures of two models are not the same thing, and why. They are shown without a difference and a p-value.

A base model without a chat template continues plain text, and its answer is cut at the first line break. It has no stop
token that ends a turn, so whether it "stops" is not measured.

Why: a share of 35% against 0% with a tiny p-value reads as a loss, although the two shares count different events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from instil.evaluation.heldout import HeldoutLoss
from instil.evaluation.meanings import LOSS
from instil.generation.engine import Engine
from instil.generation.settings import SamplingSettings

STOPS = "behaviour.stops"
CUT = ("behaviour.not_empty", "behaviour.no_repeats")
"""Figures that depend on where an answer ends: one line is seldom empty by accident and hardly repeats itself."""


class Measured(Protocol):
    """What is asked of a model's result here."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def has_template(self) -> bool:
        """Whether the model was prompted with a chat template."""

    @property
    def not_measured(self) -> Mapping[str, str]:
        """Figures without a value, as ``task.figure``, each with the reason."""

    @property
    def heldout(self) -> HeldoutLoss | None:
        """Loss on the reference answers."""


def not_measured(engine: Engine, settings: SamplingSettings) -> dict[str, str]:
    """Return the figures that a model cannot have, as ``task.figure``, each with the reason."""
    if engine.chat is None:
        return {STOPS: "no stop token (plain text, cut at a line break)"}
    if not engine.stop_ids:
        return {STOPS: "no stop token"}
    if settings.stop:
        return {STOPS: "answers are cut at a stop string"}
    return {}


def not_comparable(ours: Measured, theirs: Measured) -> dict[str, str]:
    """Return the figures of two models that must not be compared, as ``task.figure`` or `LOSS`, each with the reason."""
    reasons: dict[str, str] = {}
    for result in (ours, theirs):
        reasons |= {figure: f"{result.name} has {reason}" for figure, reason in result.not_measured.items()}
    if STOPS in ours.not_measured and STOPS in theirs.not_measured:
        reasons[STOPS] = f"neither model is measured: {ours.not_measured[STOPS]}"
    if ours.has_template != theirs.has_template:
        plain = theirs if ours.has_template else ours
        reasons |= dict.fromkeys(CUT, f"answers of {plain.name} are cut at the first line break")
    loss = _different_losses(ours, theirs)
    return reasons | ({LOSS: loss} if loss else {})


def _different_losses(ours: Measured, theirs: Measured) -> str:
    """Return why the losses of two models are not the same thing; empty if they are, or if neither has one."""
    if ours.heldout is None or theirs.heldout is None:
        missing = [result for result in (ours, theirs) if result.heldout is None]
        if len(missing) == 2 or missing[0].has_template:
            return ""
        return f"{missing[0].name} has no chat template, so it has no trained token"
    pairs = [
        (mine, other)
        for mine, other in zip(ours.heldout.trained, theirs.heldout.trained, strict=True)
        if mine is not None and other is not None
    ]
    same = all(mine == other for mine, other in pairs)
    return "" if same else "the models have different trained tokens (tokenizer, stop token or weights)"


def plain_notes(*results: Measured) -> list[str]:
    """Return a line for each model that was not prompted with a chat template."""
    return [
        f"{result.name} has no chat template: it continues the plain text of the question, and its answer ends at the "
        "first line break"
        for result in results
        if not result.has_template
    ]
