"""Warnings about settings that are allowed and rarely meant: a learning rate of another kind of training, too few steps.

`preflight` adds them to those of template and data.
"""

from __future__ import annotations

from collections.abc import Iterator

from instil.recipe import Recipe
from instil.run_warning import RunWarning
from instil.training.step.default_rate import default_rate
from instil.training.step.order import Order
from instil.units import counted

HIGHEST_LR = 25
"""Times the default. Published runs of small models are at up to 11 times (SmolLM2-360M)."""
LOWEST_LR = 1 / 20
"""Times the default. The default of full training is a tenth of LoRA's, and may be meant there."""
FEWEST_STEPS = 10
"""Fewer steps end before warm-up and schedule mean anything."""


def setting_warnings(recipe: Recipe, order: Order, *, num_parameters: int) -> list[RunWarning]:
    """Return what is probably wrong with the settings.

    Args:
        recipe: The resolved recipe.
        order: The run's steps.
        num_parameters: Numbers in the model, without adapters.
    """
    return [
        *_learning_rate(recipe, num_parameters),
        *_batch_size(order),
        *_steps(order),
        *_part_of_an_epoch(recipe, order),
    ]


def _learning_rate(recipe: Recipe, num_parameters: int) -> Iterator[RunWarning]:
    # Other optimizers have other scales, and random weights are trained with higher rates.
    if not recipe.optimizer.name.startswith("adamw") or recipe.model.initialise == "random":
        return
    objective = recipe.training.objective
    rate = float(recipe.optimizer.lr or 0)
    default = default_rate(recipe.adapter.kind, num_parameters, objective=objective)
    times = rate / default.value
    imitation = default_rate(recipe.adapter.kind, num_parameters)
    if objective != "sft" and rate * 2 >= imitation.value and times > 2:
        yield RunWarning(
            "learning_rate",
            f"optimizer.lr: {rate:g} is a rate for imitating answers ({imitation.value:g} by default); {objective} needs "
            f"less, {default.value:g} by default. At a higher rate the model leaves its reference and forgets. Leave it "
            "out to use the default",
            rate,
        )
        return
    if LOWEST_LR <= times <= HIGHEST_LR:
        return
    likely = "the run will probably diverge" if times > 1 else "the model will hardly change"
    yield RunWarning(
        "learning_rate",
        f"optimizer.lr: {rate:g} is {times:.3g} times the default for {default.words} ({default.value:g}); {likely}. "
        "Leave it out to use the default",
        rate,
    )


def _batch_size(order: Order) -> Iterator[RunWarning]:
    if order.batch_size > order.num_examples:
        yield RunWarning(
            "batch_beyond_data",
            f"training.batch_size: {order.batch_size:,}, but the data has {counted(order.num_examples, order.unit)}; "
            "every step takes all of them. Set a smaller batch size",
            order.num_examples,
        )


def _steps(order: Order) -> Iterator[RunWarning]:
    if order.num_steps < FEWEST_STEPS:
        yield RunWarning(
            "few_steps",
            f"the run has {counted(order.num_steps, 'step')}: enough to try a command, too few to train. Expected at least "
            f"{FEWEST_STEPS}. Raise training.epochs or training.max_steps, or lower training.batch_size",
            order.num_steps,
        )


def _part_of_an_epoch(recipe: Recipe, order: Order) -> Iterator[RunWarning]:
    # A fraction of an epoch says itself how much of the data is seen.
    if recipe.training.max_steps is None or order.num_seen >= order.num_examples:
        return
    share = order.num_seen / order.num_examples
    yield RunWarning(
        "part_of_an_epoch",
        f"training.max_steps: {order.num_steps:,} ends the run before one epoch: {order.num_seen:,} of "
        f"{counted(order.num_examples, order.unit)} ({share:.1%}) are trained on. One epoch has {order.steps_per_epoch:,} steps. "
        "Raise max_steps, or set training.epochs instead",
        share,
    )
