"""The loop: step, evaluate, save, until the recipe's steps are done.

What comes before it is in `run`, what a step is in `step.take_step`.

Why: no trainer class and no callbacks. What happens when is written here, in the order in which it happens. The loop
yields a record of each step and evaluation; `train` runs it to its end, and whoever follows a run sees them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from instil.preparation.store import ExampleStore
from instil.recipe import Recipe
from instil.screen import work
from instil.training.checkpoints.checkpoint import Progress
from instil.training.events import Evaluated, Event, StepTaken
from instil.training.processes.signals import StopRequest
from instil.training.records.due import when_due
from instil.training.records.recorder import Recorder
from instil.training.records.samples import Drawn
from instil.training.step.heldout import heldout_loss
from instil.training.step.learner import Cut, Learner
from instil.training.step.order import Order
from instil.training.step.preference_step import heldout_comparison
from instil.training.step.schedule import learning_rate
from instil.training.step.take_step import StepResult, take_step


def run_steps(
    recipe: Recipe,
    learner: Learner,
    *,
    order: Order,
    progress: Progress,
    heldout: ExampleStore,
    recorder: Recorder,
    sample: Callable[[], Drawn],
    stop: StopRequest,
) -> Generator[Event, None, Progress]:
    """Train from where the run is to its end, or until it is asked to stop; yield each step and evaluation.

    Args:
        recipe: The resolved recipe.
        learner: What trains; its weights and optimizers are those of `progress`.
        order: Which examples are in which step.
        progress: How far the run is.
        heldout: The held-out examples; may be empty.
        recorder: Writes the run folder.
        sample: Answers the fixed prompts and runs the recipe's tasks.
        stop: Becomes true when the run is asked to stop.

    Returns:
        How far the run is now. A checkpoint of exactly that has been written.
    """
    due = when_due(order.num_steps, evaluate_every=recipe.evaluate.every, save_every=recipe.checkpoint.every)
    patience = recipe.evaluate.patience
    if progress.step == 0 and recipe.evaluate.at_start:
        yield from _evaluate(learner, heldout, progress, recorder)
        _sample(learner, progress, recorder, sample)
    # A stop may have come between a step and its evaluation, or a kill before its answers. They come first now.
    if progress.step > progress.evaluated and due.evaluates(progress.step):
        progress = yield from _evaluate(learner, heldout, progress, recorder)
    if progress.step == progress.evaluated > progress.sampled:
        progress = _sample(learner, progress, recorder, sample)
    while progress.step < order.num_steps and not should_stop_early(progress, patience):
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
            say=recorder.say,
        )
        progress = after_step(progress, members.step, result)
        recorder.step(members, result, learning_rate=rate)
        yield StepTaken(
            members.step,
            members.epoch,
            result.loss,
            rate,
            result.gradient_norm,
            result.tokens,
            result.trained_tokens,
            result.moved,
            result.seconds["total"],
            None if result.compared is None else result.compared.accuracy,
        )
        # One process may receive the signal alone, so all of them decide together.
        stopping = learner.ranks.any(bool(stop))
        # A stop does not wait for an evaluation, except for the last one: nothing would run it later.
        if due.evaluates(progress.step) and (not stopping or progress.step == due.last):
            progress = yield from _evaluate(learner, heldout, progress, recorder)
            stopping = learner.ranks.any(bool(stop))
        is_best = progress.best_step == progress.step and recipe.checkpoint.keep_best
        saving = due.saves(progress.step) or is_best or stopping or should_stop_early(progress, patience)
        if saving:
            recorder.save(learner, progress)
        # Answers come after the checkpoint of their step: nothing that goes wrong in them costs a step.
        if progress.evaluated == progress.step > progress.sampled:
            progress = _sample(learner, progress, recorder, sample)
            if not stopping and learner.ranks.any(bool(stop)):
                stopping = True
                if not saving:
                    recorder.save(learner, progress)
        if stopping:
            break
    return progress


def should_stop_early(progress: Progress, patience: int | None) -> bool:
    """Return True when the held-out loss has not improved for `evaluate.patience` evaluations."""
    return patience is not None and progress.worse >= patience


def after_step(progress: Progress, step: int, result: StepResult) -> Progress:
    """Add a step to the progress of a run."""
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
    learner: Learner, heldout: ExampleStore, progress: Progress, recorder: Recorder
) -> Generator[Event, None, Progress]:
    """Measure the held-out loss and update the best step; yield the loss."""
    start = time.perf_counter()
    cut, compared = Cut(progress.micro_batch_tokens), None
    if learner.preference is None:
        loss = heldout_loss(learner, heldout, cut=cut)
    else:
        compared = heldout_comparison(learner, learner.preference, heldout, cut=cut)
        loss = None if compared is None else compared.loss
    if loss is not None:
        better = progress.best_loss is None or loss < progress.best_loss
        # The untrained model is no candidate: step 0 is measured and does not count.
        if progress.step > 0 and better:
            progress = progress.with_(best_loss=loss, best_step=progress.step, worse=0)
        elif progress.step > 0:
            progress = progress.with_(worse=progress.worse + 1)
        is_best = progress.best_step == progress.step
        seconds = time.perf_counter() - start
        recorder.evaluation(progress.step, loss=loss, seconds=seconds, is_best=is_best, compared=compared)
        yield Evaluated(progress.step, loss, is_best, None if compared is None else compared.accuracy)
    return progress.with_(evaluated=progress.step)


def _sample(learner: Learner, progress: Progress, recorder: Recorder, sample: Callable[[], Drawn]) -> Progress:
    """Answer the fixed prompts and run the tasks."""
    with work("sample answers and tasks"):
        drawn = sample()
    recorder.samples(progress.step, drawn)
    # The first process's answers may take longer than a collective operation waits.
    learner.ranks.wait()
    return progress.with_(sampled=progress.step)
