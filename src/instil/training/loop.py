"""The loop: step, evaluate, save, until the recipe's steps are done.

Everything before it (data, model, resuming) is in `run`; what a step is, in `step`. Questionable on purpose: no trainer class
and no callbacks. What happens when is written here, in the order in which it happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.training.checkpoints.checkpoint import Progress
from instil.training.processes.signals import StopRequest
from instil.training.records.recorder import Record
from instil.training.records.samples import Drawn
from instil.training.step.heldout import heldout_loss
from instil.training.step.order import Order
from instil.training.step.schedule import learning_rate
from instil.training.step.take_step import Cut, Learner, StepResult, take_step

EVALUATIONS_A_RUN = 10


@dataclass(frozen=True, slots=True)
class Due:
    """At which steps what happens.

    Attributes:
        evaluate: Every so many steps, and at the end.
        save: Every so many steps, and at the end.
        last: The last step.
    """

    evaluate: int
    save: int
    last: int

    def evaluates(self, step: int) -> bool:
        """Whether a step is followed by an evaluation."""
        return step % self.evaluate == 0 or step == self.last

    def saves(self, step: int) -> bool:
        """Whether a step is followed by a checkpoint."""
        return step % self.save == 0 or step == self.last


def when_due(recipe: Recipe, num_steps: int) -> Due:
    """Lay out evaluations and checkpoints.

    Example:
        >>> when_due(Recipe.from_mapping({"checkpoint": {"every": 7}}), 95)
        Due(evaluate=10, save=7, last=95)
    """
    evaluate = recipe.evaluate.every or max(1, -(-num_steps // EVALUATIONS_A_RUN))
    return Due(evaluate, recipe.checkpoint.every or evaluate, num_steps)


def run_steps(
    recipe: Recipe,
    learner: Learner,
    *,
    order: Order,
    progress: Progress,
    heldout: ExampleStore,
    record: Record,
    sample: Callable[[], Drawn],
    stop: StopRequest,
) -> Progress:
    """Train from where the run is to its end, or until it is asked to stop.

    Args:
        recipe: The resolved recipe, learning rate included.
        learner: What learns; its weights and optimizers belong to `progress`.
        order: Who is in which step.
        progress: How far the run is.
        heldout: The held-out examples; may be empty.
        record: Where it is written down.
        sample: Answers the fixed prompts and runs the recipe's tasks.
        stop: Becomes true when somebody asks the run to stop.

    Returns:
        How far the run is now. A checkpoint of exactly that has been written.
    """
    due = when_due(recipe, order.num_steps)
    if progress.step == 0 and recipe.evaluate.at_start:
        _evaluate(learner, heldout, progress, record, sample)
    if progress.step > progress.evaluated and due.evaluates(progress.step):  # a stop came before it
        progress = _evaluate(learner, heldout, progress, record, sample)
    while progress.step < order.num_steps and not enough(recipe, progress):
        members = order.members(progress.step + 1)
        rate = learning_rate(
            members.step,
            num_steps=order.num_steps,
            peak=float(recipe.optimizer.lr or 0),
            schedule=recipe.optimizer.schedule,
            warmup=recipe.optimizer.warmup,
            final=recipe.optimizer.final_lr,
        )
        result = take_step(
            learner,
            members,
            cut=Cut(progress.micro_batch_tokens, progress.loss_scale, progress.scale_age),
            seed=recipe.training.seed,
            learning_rate=rate,
            clip=recipe.optimizer.clip,
            skip_nonfinite=recipe.training.on_nonfinite == "skip_step",
            say=record.say,
        )
        progress = after_step(progress, members.step, result)
        record.step(members, result, learning_rate=rate)
        stopping = learner.ranks.any(bool(stop))
        if due.evaluates(progress.step) and (not stopping or progress.step == due.last):
            progress = _evaluate(learner, heldout, progress, record, sample)
            stopping = learner.ranks.any(bool(stop))
        is_best = progress.best_step == progress.step and recipe.checkpoint.keep_best
        if due.saves(progress.step) or is_best or stopping or enough(recipe, progress):
            record.save(learner, progress)
        if stopping:
            break
    return progress


def enough(recipe: Recipe, progress: Progress) -> bool:
    """Say whether the held-out loss has not become better for as many evaluations as the recipe bears."""
    return recipe.evaluate.patience is not None and progress.worse >= recipe.evaluate.patience


def after_step(progress: Progress, step: int, result: StepResult) -> Progress:
    """Count a step."""
    return progress.with_(
        step=step,
        tokens=progress.tokens + result.tokens,
        trained_tokens=progress.trained_tokens + result.trained_tokens,
        skipped=progress.skipped + (not result.moved),
        seconds=progress.seconds + result.seconds["total"],
        micro_batch_tokens=result.cut.micro_batch_tokens,
        loss_scale=result.cut.loss_scale,
        scale_age=result.cut.scale_age,
        last_loss=result.loss,
    )


def _evaluate(
    learner: Learner, heldout: ExampleStore, progress: Progress, record: Record, sample: Callable[[], Drawn]
) -> Progress:
    """Measure the held-out loss, answer the fixed prompts, and keep count of the best."""
    start = time.perf_counter()
    loss = heldout_loss(learner, heldout, cut=Cut(progress.micro_batch_tokens))
    if loss is not None:
        better = progress.best_loss is None or loss < progress.best_loss
        if progress.step > 0 and better:
            progress = progress.with_(best_loss=loss, best_step=progress.step, worse=0)
        elif progress.step > 0:
            progress = progress.with_(worse=progress.worse + 1)
        record.evaluation(
            progress.step, loss=loss, seconds=time.perf_counter() - start, is_best=progress.best_step == progress.step
        )
    record.samples(progress.step, sample())
    learner.ranks.wait()  # for the first one's answers, which may take longer than a sum waits
    return progress.with_(evaluated=progress.step)
