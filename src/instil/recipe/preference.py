"""The settings of preference tuning, and which rows an objective reads."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from instil.recipe.settings import Number, Settings

Objective: TypeAlias = Literal["sft", "dpo", "ipo", "simpo", "orpo", "kto"]
"""What a run learns from: answers to imitate (`sft`), or which answers are better (all others)."""
Reading: TypeAlias = Literal["sft", "pairs", "judged"]
"""How rows are read: one answer to imitate, two answers to compare, or one answer with a judgement."""
BETAS: dict[Objective, float] = {"dpo": 0.1, "ipo": 0.1, "simpo": 2.0, "orpo": 0.1, "kto": 0.1}
"""Beta where a recipe sets none.

*Source:* the papers of the objectives (see docs/how-to/preferences.md).
"""

REFERENCE_FREE: frozenset[Objective] = frozenset({"simpo", "orpo"})
"""Objectives that compare with no reference."""


class PreferenceSettings(Settings):
    """How a run learns from preferences; without effect for `training.objective: sft`."""

    beta: Number | None = Field(
        None,
        gt=0,
        description=(
            "Strength of the preference, or how closely the model stays to its reference: DPO's and KTO's beta, IPO's "
            "tau, SimPO's beta, ORPO's lambda. Empty: 0.1, for SimPO 2."
        ),
    )
    margin: Number = Field(
        1.0, ge=0, description="For SimPO: gamma, by how much the chosen answer's reward should be higher."
    )
    length_normalized: bool = Field(
        False, description="For DPO: divide each answer's log-probability by its length, as Tülu 3 does."
    )
    sft_weight: Number = Field(
        0.0,
        ge=0,
        description="Add the chosen answer's cross-entropy per token, times this number. ORPO has it in any case.",
    )
    desirable_weight: Number = Field(1.0, gt=0, description="For KTO: weight of the answers judged good.")
    undesirable_weight: Number = Field(1.0, gt=0, description="For KTO: weight of the answers judged bad.")


def reading_of(objective: Objective) -> Reading:
    """Return how an objective reads rows.

    Example:
        >>> reading_of("sft"), reading_of("simpo"), reading_of("kto")
        ('sft', 'pairs', 'judged')
    """
    if objective == "sft":
        return "sft"
    return "judged" if objective == "kto" else "pairs"


def objective_words(objective: Objective, settings: PreferenceSettings) -> str:
    """Return an objective with the numbers that decide what its loss measures.

    Example:
        >>> objective_words("sft", PreferenceSettings()), objective_words("simpo", PreferenceSettings())
        ('sft', 'simpo, beta 2, margin 1')
    """
    if objective == "sft":
        return objective
    numbers = [f"beta {BETAS[objective] if settings.beta is None else settings.beta:g}"]
    numbers += [f"margin {settings.margin:g}"] if objective == "simpo" else []
    numbers += ["divided by length"] if settings.length_normalized else []
    numbers += [f"cross-entropy of the chosen answer times {settings.sft_weight:g}"] if settings.sft_weight else []
    if objective == "kto":
        numbers.append(f"good answers times {settings.desirable_weight:g}, bad times {settings.undesirable_weight:g}")
    return f"{objective}, {', '.join(numbers)}"


def unit_of(objective: Objective) -> str:
    """Return what `training.batch_size` counts: ``example`` or ``pair``.

    Example:
        >>> unit_of("dpo"), unit_of("kto")
        ('pair', 'example')
    """
    return "pair" if reading_of(objective) == "pairs" else "example"
