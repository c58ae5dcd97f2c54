"""The learning rate where a recipe sets none: by what trains and by the size of the model.

*Source:* published runs and a measurement, listed in docs/how-it-works/training.md.

Why: a small model needs a higher rate. One rate for all sizes, such as 2e-5, hardly moves a model of a few million
parameters and is right for seven billion.
"""

from __future__ import annotations

from dataclasses import dataclass

from instil.units import short_count

_RATE, _SIZE = 1e-3, 3e6
"""What was measured on the embedded base model: the rate of full fine-tuning, and its parameters."""
_LORA = 10
"""Times the rate of full fine-tuning. *Source:* Schulman et al., LoRA Without Regret (2025)."""
_ADAFACTOR, _HIGHEST_ADAFACTOR = 50, 1e-2
"""The same for Adafactor, whose rate is a share of each tensor's size: 1e-3 for 7B, as T5 was tuned; and PyTorch's default."""
_PREFERENCE = {"dpo": 40, "ipo": 40, "simpo": 40, "kto": 40, "orpo": 3}
"""What the rate of imitation is divided by: to 5e-7 for full fine-tuning of 7B, as the papers of DPO, SimPO and KTO were
tuned, and to 7e-6 for ORPO, whose loss holds the cross-entropy (8e-6 in its paper)."""
_HIGHEST = {"none": 1e-3, "lora": 5e-3}
"""Rates beyond which the embedded base model becomes worse; smaller models get no higher one."""


@dataclass(frozen=True, slots=True)
class DefaultRate:
    """The default learning rate of a run.

    Attributes:
        value: The peak learning rate.
        words: What it is for, such as ``full fine-tuning of 135M parameters``.
    """

    value: float
    words: str


def default_rate(adapter: str, num_parameters: int, *, optimizer: str = "adamw", objective: str = "sft") -> DefaultRate:
    """Return the default peak learning rate. It falls with the square root of the model's size.

    AdamW in 32 and 8 bits and Muon, whose step is scaled to AdamW's, share it. Adafactor has one of its own.

    Args:
        adapter: The recipe's `adapter.kind`: ``none`` trains every weight.
        num_parameters: Numbers in the model, without adapters.
        optimizer: The recipe's `optimizer.name`.
        objective: The recipe's `training.objective`.

    Example:
        >>> [default_rate("none", n).value for n in (3_000_000, 135_000_000, 1_700_000_000, 8_000_000_000)]
        [0.001, 0.00015, 4.2e-05, 1.9e-05]
        >>> [default_rate("lora", n).value for n in (500_000_000, 8_000_000_000, 70_000_000_000)]
        [0.00077, 0.00019, 6.5e-05]
        >>> [default_rate(kind, 7_000_000_000, objective="dpo").value for kind in ("none", "lora")]
        [5.2e-07, 5.2e-06]
    """
    full = _RATE * (_SIZE / max(1, num_parameters)) ** 0.5
    rate = min(full * (1 if adapter == "none" else _LORA), _HIGHEST[adapter]) / _PREFERENCE.get(objective, 1)
    if optimizer == "adafactor":
        rate = min(_ADAFACTOR * rate, _HIGHEST_ADAFACTOR)
    what = "full fine-tuning" if adapter == "none" else "LoRA"
    by = " by Adafactor" if optimizer == "adafactor" else ""
    by += f" with {objective}" if objective in _PREFERENCE else ""
    return DefaultRate(float(f"{rate:.2g}"), f"{what} of {short_count(num_parameters)} parameters{by}")
