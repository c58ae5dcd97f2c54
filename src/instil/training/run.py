"""`train`: from a recipe to a run folder.

The flow from top to bottom: study (names, template, data), assemble (model, optimizers), resume, train, write the model. Nothing is
written before the input has passed. Questionable on purpose: resuming starts like a fresh run and then loads the latest
whole checkpoint; there is no second path that could come to differ.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from instil.errors import CheckpointError
from instil.files import disk_errors, locked, sweep_aside, write_json_atomic, write_text_atomic
from instil.model.device_memory import memory_errors
from instil.recipe import Recipe
from instil.training.checkpoints.capture import restore_optimizers, restore_weights
from instil.training.checkpoints.checkpoint import Checkpoint, Progress, open_checkpoint, step_folder
from instil.training.checkpoints.retention import latest_checkpoint, with_best_there
from instil.training.loop import enough, run_steps
from instil.training.memory.fit import Fit
from instil.training.memory.usage import peak_rss_mb, rss_mb
from instil.training.preflight import Studied, study
from instil.training.process_settings import freed_memory_kept, torch_settings
from instil.training.processes.join import is_joined, join_ranks
from instil.training.processes.launcher import launch
from instil.training.processes.same_inputs import check_folder_is_shared, check_recipes
from instil.training.processes.signals import StopRequest, stop_on_signals
from instil.training.records.environment import describe_environment
from instil.training.records.metrics import rewind_lines
from instil.training.records.model_output import save_trained
from instil.training.records.recorder import open_record
from instil.training.records.run_folder import Run, RunPaths, check_output, is_whole, new_folder, resumed_recipe
from instil.training.records.samples import Sampler, draw_nothing
from instil.training.replicate_or_shard import wants_shards
from instil.training.run_card import run_card
from instil.training.setup import Assembled, assemble, load_learnable
from instil.training.step.precision import FIRST_LOSS_SCALE, Weights


def train(recipe: Recipe, *, resume: bool = False, quiet: bool = False) -> Run:
    """Train what a recipe says and write its run folder.

    Args:
        recipe: The recipe. Its `output` names the run folder.
        resume: Go on with the run in that folder from its latest whole checkpoint; with no run there, start one.
        quiet: Print nothing.

    Returns:
        The run. It is not `finished` where SIGTERM or Ctrl-C stopped it; everything is saved then, and ``resume=True`` goes on.

    Raises:
        RunError: If the run folder exists and `resume` is false, another process writes to it, or the recipe is not the
            run's.
        InstilError: Whatever is wrong with settings, data, template or model; nothing has been written then.
        Stopped: A KeyboardInterrupt, where a signal came before the first step, or a second one after it.

    Example:
        >>> run = train(Recipe.load("recipe.yaml"))  # doctest: +SKIP
        >>> run.model_folder  # doctest: +SKIP
    """
    recipe = recipe.override({"output": recipe.output.replace("{name}", "run")})
    paths = RunPaths(Path(recipe.output))
    goes_on = check_output(paths.folder, resume=resume)
    if recipe.parallel.processes > 1 and not is_joined():
        stopped_by = launch(recipe, resume=resume, quiet=quiet)
        return replace(Run.open(paths.folder), signal=stopped_by)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch_settings(threads=recipe.threads, deterministic=recipe.training.deterministic))
        stop = stack.enter_context(stop_on_signals())
        ranks = stack.enter_context(join_ranks(recipe.parallel, device_name=recipe.device))
        if ranks.device.type == "cpu":
            stack.enter_context(freed_memory_kept())
        say = _printer(quiet or not ranks.is_first)
        check_recipes(recipe, ranks)
        goes_on = ranks.tell(goes_on)
        if goes_on:
            if ranks.is_first:
                stack.enter_context(locked(paths.folder))
            check_folder_is_shared(paths.folder, ranks)
            recipe = resumed_recipe(recipe, Recipe.load_saved(paths.folder), folder=paths.folder)
            if paths.results.exists():
                say(f"{paths.folder}: this run is finished")
                return Run.open(paths.folder)
        elif resume:
            say(f"{paths.folder}: no run to go on with; starting it")
        studied = study(recipe, ranks, say=say)
        before_model = rss_mb()
        with memory_errors(recipe.model.name, "set adapter.rank lower, model.quantize: 4bit, or free some memory"):
            assembled = assemble(studied, ranks, sharded=wants_shards(studied, ranks))
        stack.enter_context(disk_errors(paths.folder))
        if not goes_on:
            if ranks.is_first:
                stack.enter_context(new_folder(paths))
            check_folder_is_shared(paths.folder, ranks)
            if ranks.is_first:
                paths.checkpoints.mkdir(exist_ok=True)
                write_text_atomic(paths.recipe, studied.recipe.to_yaml())
        ranks.wait()
        stop.save_first(say)
        return _train(paths, studied, assembled, stop=stop, say=say, quiet=quiet, before_model=before_model)


def _train(
    paths: RunPaths,
    studied: Studied,
    assembled: Assembled,
    *,
    stop: StopRequest,
    say: Callable[[str], None],
    quiet: bool,
    before_model: float,
) -> Run:
    recipe, learner = studied.recipe, assembled.learner
    identity = identity_of(studied, assembled)
    checkpoint = latest_checkpoint(paths.checkpoints, say=say)
    progress = _first_progress(assembled) if checkpoint is None else _restore(assembled, checkpoint, identity)
    progress = _with_cut(progress, recipe, assembled.fit)
    if recipe.checkpoint.final == "best":
        progress = with_best_there(progress, paths.checkpoints, say=say)
    learner.ranks.wait()
    if learner.ranks.is_first:
        sweep_aside(paths.folder)
        sweep_aside(paths.checkpoints)
        if checkpoint is None and paths.metrics.exists():
            say(f"{paths.checkpoints}: no checkpoint that is whole; starting again from the first step")
        _write_known(paths, studied, assembled, again=checkpoint is None)
        done = progress.step if checkpoint else -1
        rewind_lines(paths.samples, step=done)
        lost = progress.step - rewind_lines(paths.metrics, step=done)
        if lost:
            say(
                f"{paths.metrics}: damaged, the lines of {lost} of {progress.step} steps are gone; the run itself is whole"
            )
    for line in run_card(studied, assembled, paths.folder):
        say(line)
    if checkpoint is not None:
        say(f"going on from {checkpoint.folder}")
    speaks = learner.ranks.is_first and not learner.sharded
    heldout = studied.prepared.heldout_conversations if speaks else []
    sampler = Sampler(assembled.model, studied.chat, recipe.evaluate, heldout=heldout)
    started = time.perf_counter()
    with open_record(
        paths,
        recipe,
        identity=identity,
        num_steps=studied.order.num_steps,
        done=progress.step,
        is_first=learner.ranks.is_first,
        quiet=quiet,
    ) as record:
        progress = run_steps(
            recipe,
            learner,
            order=studied.order,
            progress=progress,
            heldout=studied.prepared.heldout,
            record=record,
            sample=sampler.draw if speaks else draw_nothing,
            stop=stop,
        )
        record.picture()
    if progress.step < studied.order.num_steps and not enough(recipe, progress):
        where = step_folder(paths.checkpoints, progress.step)
        say(f"stopped after step {progress.step}; saved in {where}; go on with --resume")
        return Run(paths.folder, False, {}, stop.signal)
    if learner.ranks.is_first:
        peak = {
            "planned_mb": round(assembled.fit.memory.peak / 2**20, 1),
            "rss_before_model_mb": round(before_model, 1),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        _finish(paths, studied, assembled, progress, seconds=time.perf_counter() - started, peak=peak, say=say)
    learner.ranks.wait()
    return Run.open(paths.folder)


def _finish(
    paths: RunPaths,
    studied: Studied,
    assembled: Assembled,
    progress: Progress,
    *,
    seconds: float,
    peak: Mapping[str, float],
    say: Callable[[str], None],
) -> None:
    """Write model and results; a run whose results.json is there is complete."""
    recipe = studied.recipe
    best = progress.best_step if recipe.checkpoint.final == "best" else None
    step = progress.step if best is None else best
    model, weights = assembled.model, assembled.learner.weights
    if assembled.learner.sharded:  # put together where there is room for the whole
        model, _ = load_learnable(studied, torch.device("cpu"))
        weights = Weights(model, studied.precision)
    if step != progress.step:
        say(f"the model is that of step {step}, the best on held-out data")
    restore_weights(weights, open_checkpoint(step_folder(paths.checkpoints, step)))
    save_trained(
        model,
        studied.chat,
        paths,
        recipe=recipe,
        location=studied.location,
        change=studied.change,
    )
    metrics = Run(paths.folder, True, {}).metrics()
    heldout = [line["heldout_loss"] for line in metrics if "heldout_loss" in line]
    results: dict[str, Any] = {
        "steps": progress.step,
        "loss": progress.last_loss,
        "heldout_loss": heldout[-1] if heldout else None,
        "best_heldout_loss": progress.best_loss,
        "best_step": progress.best_step,
        "examples": len(studied.prepared.train),
        "tokens": progress.tokens,
        "trained_tokens": progress.trained_tokens,
        "steps_left_out": progress.skipped,
        "training_seconds": round(progress.seconds, 3),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
        **peak,
    }
    write_json_atomic(paths.results, results)
    if heldout:
        say(f"held-out   {_course(heldout, progress)}")
    say(f"done: {paths.model}; try: instil chat {paths.folder}")


def _course(losses: Sequence[float], progress: Progress) -> str:
    """Say what became of the held-out loss: a step's line shows what was measured before it, the last one too."""
    first = f"{losses[0]:.4f} when first measured, " if len(losses) > 1 else ""
    is_lowest = progress.best_loss in (None, losses[-1])
    lowest = "" if is_lowest else f"; lowest {progress.best_loss:.4f} at step {progress.best_step}"
    return f"loss {first}{losses[-1]:.4f} at the end{lowest}"


def identity_of(studied: Studied, assembled: Assembled) -> dict[str, Any]:
    """Give what must be the same for a checkpoint to belong to a run."""
    order = studied.order
    return {
        "data": studied.prepared.fingerprint,
        "examples": order.num_examples,
        "batch_size": order.batch_size,
        "steps": order.num_steps,
        "seed": order.seed,
        "precision": studied.precision.name,
        "optimizer": studied.recipe.optimizer.name,
        "trained": assembled.num_trained,
    }


def _first_progress(assembled: Assembled) -> Progress:
    scale = FIRST_LOSS_SCALE if assembled.learner.scaled else 1.0
    return Progress(loss_scale=scale)


def _with_cut(progress: Progress, recipe: Recipe, fit: Fit) -> Progress:
    """Cut the steps as before, unless the recipe now asks for another cut than it did then."""
    asked = recipe.training.micro_batch_tokens
    wish = 0 if asked == "auto" else asked
    if progress.micro_batch_tokens and progress.asked_tokens == wish:
        return progress
    return progress.with_(micro_batch_tokens=fit.micro_batch_tokens, asked_tokens=wish)


def _restore(assembled: Assembled, checkpoint: Checkpoint, identity: dict[str, Any]) -> Progress:
    for key, value in identity.items():
        before = checkpoint.identity.get(key)
        if before != value:
            raise CheckpointError(
                f"{checkpoint.folder}: its {key} is {before!r}, this run's is {value!r}; a run goes on only with the data and "
                "settings that it was started with; restore them, or set another output"
            )
    restore_weights(assembled.learner.weights, checkpoint)
    restore_optimizers(assembled.learner, checkpoint)
    return checkpoint.progress


def _write_known(paths: RunPaths, studied: Studied, assembled: Assembled, *, again: bool) -> None:
    """Write the account of the rows, and what the run is made with, where they are not there whole.

    Args:
        paths: The run folder.
        studied: The data.
        assembled: The device.
        again: Write them in any case: the run starts, perhaps again, with the data as it is now.
    """
    if again or not is_whole(paths.ledger):
        write_json_atomic(paths.ledger, json.loads(json.dumps(studied.prepared.to_json(), default=str)))
    if again or not is_whole(paths.environment):
        environment = describe_environment(
            assembled.learner.ranks.device,
            data=studied.prepared.fingerprint,
            template=studied.chat.template.fingerprint,
            encoder=studied.chat.fingerprint,
        )
        write_json_atomic(paths.environment, environment)


def _printer(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    return say
