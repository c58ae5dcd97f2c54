"""What trains, and how a step of it is cut: Learner and Cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from instil.model.loss.preference import PreferenceLoss
from instil.model.loss.token_loss import TokenLoss
from instil.preparation.store import ExampleStore
from instil.training.processes.ranks import Ranks
from instil.training.step.precision import Weights


@dataclass(frozen=True, slots=True)
class Reference:
    """Log-probabilities under the reference: the model as it was before the first step.

    Attributes:
        own: Of each training example; not a number where a run never sees it.
        heldout: Of each held-out example.
        mismatched: For KTO: of the mismatched answers of each step, from step 1 on (see `step.mismatched`).
        heldout_mismatched: For KTO: of those of the held-out examples.
    """

    own: npt.NDArray[np.float64]
    heldout: npt.NDArray[np.float64]
    mismatched: tuple[npt.NDArray[np.float64], ...] = ()
    heldout_mismatched: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """How a learner compares answers.

    Attributes:
        loss: The objective.
        reference: What it compares with; None for an objective without a reference.
        longest: Tokens that a mismatched answer of KTO is cut to; None for no limit.
    """

    loss: PreferenceLoss
    reference: Reference | None
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Learner:
    """The objects that every step works with.

    Attributes:
        loss: The model inside its loss.
        weights: The trained tensors.
        optimizers: The optimizers that move them.
        store: The training examples.
        ranks: The processes.
        sharded: Whether the weights lie in shards over the processes. The backward pass then sums the gradients.
        scaled: Whether the loss is scaled (fp16).
        one_by_one: Whether a forward pass takes one example only, for models that mix examples laid end to end.
        preference: How answers are compared; None where a run imitates them.
    """

    loss: TokenLoss
    weights: Weights
    optimizers: Sequence[torch.optim.Optimizer]
    store: ExampleStore
    ranks: Ranks
    sharded: bool = False
    scaled: bool = False
    one_by_one: bool = False
    preference: Preference | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """How a step is computed. It never changes the result beyond rounding.

    Attributes:
        micro_batch_tokens: Tokens of one forward pass on one device; processes that share a micro-batch hold that many
            each.
        loss_scale: Factor on the loss in fp16, else 1.
        scale_age: Steps since the factor last changed.
    """

    micro_batch_tokens: int
    loss_scale: float = 1.0
    scale_age: int = 0
