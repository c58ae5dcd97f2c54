"""`train`: from a recipe to a run folder.

Read from top to bottom: `train` follows the run to its end, `_events` starts or joins the processes, `_train_joined`
checks the input and makes the folder, `_train_steps` trains, `_finish` writes the model. `preflight`, `setup` and
`loop` hold what each of them calls.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from instil.errors import InstilError, RunError
from instil.files import disk_errors, locked, sweep_aside, write_json_atomic, write_text_atomic
from instil.model.device_memory import memory_errors
from instil.preparation.workers import run_on_first
from instil.recipe import Recipe
from instil.screen import Heading, Screen, hide_work, show_work, under_heading, work
from instil.training.checkpoints.capture import restore_weights
from instil.training.checkpoints.checkpoint import Checkpoint, Progress, open_checkpoint, step_folder
from instil.training.checkpoints.mirror import Mirror
from instil.training.checkpoints.mirrored_run import MirroredRun
from instil.training.checkpoints.mirroring import copy_finished, mirrored, mirrored_run_of, open_place
from instil.training.checkpoints.retention import latest_checkpoint, with_best_there
from instil.training.events import Ended, Event, WrittenEvents
from instil.training.loop import run_steps, should_stop_early
from instil.training.memory.usage import peak_rss_mb, rss_mb
from instil.training.model_card.run_cards import write_cards
from instil.training.preference.start import start_preference
from instil.training.preflight import Preflight, run_preflight
from instil.training.process_settings import freed_memory_kept, return_freed_memory, torch_settings
from instil.training.processes.join import is_launched, join_ranks
from instil.training.processes.launcher import launch
from instil.training.processes.ranks import Ranks
from instil.training.processes.ray_launcher import launch_on_ray
from instil.training.processes.same_inputs import check_folder_is_shared, check_same_settings
from instil.training.processes.signals import StopRequest, stop_on_signals
from instil.training.recipe_checks import check_early
from instil.training.records.closing import CardGroup, CardLine, RunTime, closing_block, next_commands
from instil.training.records.environment import describe_environment
from instil.training.records.metrics import rewind_lines
from instil.training.records.model_output import save_trained, write_results
from instil.training.records.recorder import Recorder, open_recorder
from instil.training.records.run_folder import (
    Run,
    RunPaths,
    check_output,
    is_intact,
    new_folder,
    resume_command,
    run_name,
)
from instil.training.records.samples import Sampler, draw_nothing
from instil.training.records.written_model import examples_to_check
from instil.training.replicate_or_shard import wants_shards
from instil.training.resume import identity_of, restore, resumed_recipe, with_micro_batches
from instil.training.run_card import run_card
from instil.training.setup import Assembled, assemble, load_trainable
from instil.training.shards.saving import save_shards
from instil.training.step.learner import Cut
from instil.training.step.precision import FIRST_LOSS_SCALE, Weights

Say = Callable[[str], None]


def train(recipe: Recipe, *, resume: bool = False, quiet: bool = False, say: Say | None = None) -> Run:
    """Train as a recipe says and write its run folder.

    Args:
        recipe: The recipe. Its `output` names the run folder.
        resume: Continue the run in that folder from its latest intact checkpoint. If there is no run, start one.
        quiet: Print nothing.
        say: Print the lines instead of this function; not those of several processes, which print their own.

    Returns:
        The run. It is not `finished` if SIGTERM or Ctrl-C stopped it. Everything is saved then, and ``resume=True``
        continues it.

    Raises:
        RunError: If the run folder exists and `resume` is false, another process writes to it, or the recipe is not the
            run's.
        InstilError: If settings, data, template or model are wrong. Nothing has been written then.
        Stopped: A KeyboardInterrupt, if a signal came before the first step, or a second one after it.

    Example:
        >>> run = train(Recipe.load("recipe.yaml"))  # doctest: +SKIP
        >>> run.model_folder  # doctest: +SKIP
    """
    run = None
    for event in follow(recipe, resume=resume, quiet=quiet, say=say):
        run = event.run if isinstance(event, Ended) else None
    assert run is not None
    return run


def follow(recipe: Recipe, *, resume: bool = False, quiet: bool = False, say: Say | None = None) -> Iterator[Event]:
    """Train as `train` does, and yield each step and evaluation when it happens; the last record is `Ended`.

    Nothing happens between two records while the caller holds the first one. A caller that leaves the loop asks the run
    to stop, as a signal does: it finishes its step, and everything is saved.

    Args:
        recipe: As for `train`.
        resume: As for `train`.
        quiet: As for `train`.
        say: As for `train`.
    """
    with stop_on_signals() as stop:
        events = _events(recipe, stop=stop, resume=resume, quiet=quiet, say=say)
        try:
            for event in events:  # noqa: UP028 (`yield from` would close `events` before the run can save)
                yield event
        except GeneratorExit:
            stop.ask()
            for _ in events:
                pass
            raise


def _events(recipe: Recipe, *, stop: StopRequest, resume: bool, quiet: bool, say: Say | None) -> Iterator[Event]:
    """Start or join the processes, and yield what happens in the run, its end included."""
    recipe = recipe.override({"output": recipe.output.replace("{name}", "run")})
    paths = RunPaths(Path(recipe.output))
    try:
        is_resumed = check_output(paths.folder, resume=resume)
    except RunError:
        if not resume:
            check_early(recipe)  # with another folder, a mistake in the settings would come next
        raise
    starts_others = recipe.parallel.processes > 1 or recipe.parallel.launcher == "ray"
    if starts_others and not is_launched():
        # This process only launches the others; each of them calls `train` again. They write what is yielded here.
        hide_work()
        written = WrittenEvents(paths.metrics)
        with _resuming_named(paths.folder):
            start = launch_on_ray if recipe.parallel.launcher == "ray" else launch
            signal = yield from start(recipe, resume=resume, quiet=quiet, events=written.new, stop=stop)
        yield Ended(replace(Run.open(paths.folder), signal=signal))
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_resuming_named(paths.folder))
        stack.enter_context(torch_settings(threads=recipe.threads, deterministic=recipe.training.deterministic))
        ranks = stack.enter_context(join_ranks(recipe.parallel, device_name=recipe.device))
        if ranks.device.type == "cpu":
            stack.enter_context(freed_memory_kept())
        is_silent = quiet or not ranks.is_first
        if not is_silent:
            stack.enter_context(show_work())
        say = say if say is not None and not quiet else Screen(quiet=is_silent).say
        check_same_settings(recipe.model_dump(mode="json"), ranks)
        # The processes looked at the folder at different times. The first one's answer counts.
        is_resumed = ranks.tell(_open_mirrored(recipe, paths, ranks, resume=resume, say=say) or is_resumed)
        if resume and not is_resumed:
            say(f"{paths.folder}: no run to resume; starting one")
        run = yield from _train_joined(recipe, paths, ranks, is_resumed=is_resumed, stop=stop, say=say, quiet=quiet)
    yield Ended(run)


def _open_mirrored(recipe: Recipe, paths: RunPaths, ranks: Ranks, *, resume: bool, say: Say) -> bool:
    """Look at the run's place in a bucket, and return whether a run was copied back from it. Every process calls this.

    Raises:
        RunError: On every process, as `open_place`.
    """
    place = _place_of(recipe, paths)
    if place is None:
        return False

    def fetched() -> bool:
        open_place(place, paths.folder, resume=resume, say=say)
        return check_output(paths.folder, resume=resume)

    try:
        return run_on_first(ranks, fetched)
    except InstilError as error:
        raise RunError(str(error)) from None


@contextlib.contextmanager
def _resuming_named(folder: Path) -> Iterator[None]:
    """Name the whole command in the errors of a run that say to continue with ``--resume``.

    Why: checkpoints and steps know that a run can go on, but not its folder.
    """
    try:
        yield
    except InstilError as error:
        if error.args and isinstance(error.args[0], str):
            whole = error.args[0].replace(" with --resume", f" with {resume_command(folder)}")
            error.args = (whole, *error.args[1:])
        raise


def _train_joined(
    recipe: Recipe, paths: RunPaths, ranks: Ranks, *, is_resumed: bool, stop: StopRequest, say: Say, quiet: bool
) -> Generator[Event, None, Run]:
    """Check everything that can be wrong, then make or lock the run folder, then train. Every process calls this."""
    with contextlib.ExitStack() as stack:
        if is_resumed:
            # Locked before it is read, so that no other run writes to it meanwhile.
            if ranks.is_first:
                stack.enter_context(locked(paths.folder))
            check_folder_is_shared(paths.folder, ranks)
            recipe = resumed_recipe(recipe, Recipe.load_saved(paths.folder), folder=paths.folder)
            if paths.results.exists():
                say(f"{paths.folder}: this run is finished")
                if ranks.is_first:
                    copy_finished(
                        _place_of(recipe, paths),
                        paths.folder,
                        keep_last=recipe.checkpoint.keep_last,
                        resume_with=resume_command(paths.folder),
                        say=say,
                    )
                _say_groups([next_commands(paths.folder, recipe)], say)
                return Run.open(paths.folder)
        preflight = run_preflight(recipe, ranks, say=under_heading("Rows", as_card(say)))
        rss_before_model = rss_mb()
        with (
            work("loading the model"),
            memory_errors(recipe.model.name, "Set adapter.rank lower, model.quantize: 4bit, or free some memory."),
        ):
            assembled = assemble(preflight, ranks, sharded=wants_shards(preflight, ranks))
        # The input has passed. From here on the run writes to its folder.
        stack.enter_context(disk_errors(paths.folder))
        if not is_resumed:
            stack.enter_context(_new_run_folder(paths, preflight.recipe, ranks))
        ranks.wait()
        stop.save_first(say)
        mirror = stack.enter_context(_mirrored(preflight.recipe, paths, ranks, say=say))
        return (
            yield from _train_steps(
                paths,
                preflight,
                assembled,
                stop=stop,
                say=say,
                quiet=quiet,
                rss_before_model=rss_before_model,
                mirror=mirror,
            )
        )


def _mirrored(
    recipe: Recipe, paths: RunPaths, ranks: Ranks, *, say: Say
) -> contextlib.AbstractContextManager[Mirror | None]:
    """Return a context in which the first process keeps a copy of the run in a bucket, if the recipe has one."""
    place = _place_of(recipe, paths) if ranks.is_first else None
    keep, command = recipe.checkpoint.keep_last, resume_command(paths.folder)
    return mirrored(place, paths.folder, keep_last=keep, resume_with=command, say=say)


def _place_of(recipe: Recipe, paths: RunPaths) -> MirroredRun | None:
    """Return where the run is copied to, if the recipe says so."""
    return mirrored_run_of(recipe.checkpoint.mirror, name=run_name(paths.folder))


@contextlib.contextmanager
def _new_run_folder(paths: RunPaths, recipe: Recipe, ranks: Ranks) -> Iterator[None]:
    """Make the folder of a new run, and lock it while the context is open."""
    with new_folder(paths) if ranks.is_first else contextlib.nullcontext():
        check_folder_is_shared(paths.folder, ranks)
        if ranks.is_first:
            paths.checkpoints.mkdir(exist_ok=True)
            write_text_atomic(paths.recipe, recipe.to_yaml())  # a folder with a recipe is a run
        yield


def _train_steps(
    paths: RunPaths,
    preflight: Preflight,
    assembled: Assembled,
    *,
    stop: StopRequest,
    say: Say,
    quiet: bool,
    rss_before_model: float,
    mirror: Mirror | None,
) -> Generator[Event, None, Run]:
    """Train from the latest checkpoint, or from the start, to the end of the run or a stop."""
    recipe, learner, ranks = preflight.recipe, assembled.learner, assembled.learner.ranks
    identity = identity_of(preflight, num_trained=assembled.num_trained)
    start = None
    if recipe.training.objective != "sft":  # the reference needs the weights from before any checkpoint
        start = start_preference(
            learner,
            recipe,
            order=preflight.order,
            heldout=preflight.prepared.heldout,
            cut=Cut(assembled.fit.micro_batch_tokens),
            exact=preflight.precision.compute == torch.float32,
            folders=(paths.folder, preflight.prepared.folder),
        )
        learner = start.learner
        assembled = replace(assembled, learner=learner)
    with work("reading the checkpoint") if any(paths.checkpoints.glob("step-*")) else contextlib.nullcontext():
        checkpoint = latest_checkpoint(paths.checkpoints, say=say)
        progress = _starting_progress(paths, recipe, assembled, checkpoint, identity, say=say)
    # All processes have read the checkpoint before the first one removes anything.
    ranks.wait()
    card = run_card(preflight, assembled, paths.folder, start=start)
    if ranks.is_first:
        _tidy_folder(paths, preflight, assembled, progress, is_new=checkpoint is None, say=say)
        write_json_atomic(paths.card, {"groups": [asdict(group) for group in card]})
    _say_groups(card, as_card(say))
    if checkpoint is not None:
        say(f"resuming from {checkpoint.folder}")
        if mirror is not None:
            mirror.saved(progress.step, best=progress.best_step if recipe.checkpoint.keep_best else None)
    # Answers are generated by the first process alone, which needs the whole model.
    answers = ranks.is_first and not learner.sharded
    heldout = preflight.prepared.heldout_conversations if answers else []
    sampler = Sampler(assembled.model, preflight.chat, recipe.evaluate, heldout=heldout)
    for note in sampler.notes:
        say(f"{'note':<10} {note}")
    started = time.perf_counter()
    with _recorder(
        paths, preflight, identity, progress, is_first=ranks.is_first, quiet=quiet, mirror=mirror
    ) as recorder:
        progress = yield from run_steps(
            recipe,
            learner,
            order=preflight.order,
            progress=progress,
            heldout=preflight.prepared.heldout,
            recorder=recorder,
            sample=sampler.draw if answers else draw_nothing,
            stop=stop,
        )
        recorder.picture()
    if progress.step < preflight.order.num_steps and not should_stop_early(progress, recipe.evaluate.patience):
        folder = step_folder(paths.checkpoints, progress.step)
        say(f"stopped after step {progress.step}; saved in {folder}")
        _say_groups([CardGroup("Next", (("continue", resume_command(paths.folder)),))], say)
        return Run(paths.folder, False, {}, stop.signal)
    if ranks.is_first or assembled.by_rows:
        memory = {
            "planned_mb": round(assembled.fit.memory.peak / 2**20, 1),
            "rss_before_model_mb": round(rss_before_model, 1),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        seconds = time.perf_counter() - started
        time_taken = RunTime(progress.seconds, seconds, resumed=checkpoint is not None)
        _finish(paths, preflight, assembled, progress, taken=time_taken, memory=memory, say=say)
    ranks.wait()
    return Run.open(paths.folder)


def _starting_progress(
    paths: RunPaths,
    recipe: Recipe,
    assembled: Assembled,
    checkpoint: Checkpoint | None,
    identity: Mapping[str, Any],
    *,
    say: Say,
) -> Progress:
    """Restore the checkpoint, if there is one, and return where the run starts."""
    learner = assembled.learner
    if checkpoint is None:
        progress = Progress(loss_scale=FIRST_LOSS_SCALE if learner.scaled else 1.0)
    else:
        progress = restore(learner, checkpoint, identity=identity, say=say)
    progress = with_micro_batches(
        progress, requested=recipe.training.micro_batch_tokens, planned=assembled.fit.micro_batch_tokens
    )
    if recipe.checkpoint.final == "best":
        progress = with_best_there(progress, paths.checkpoints, say=say)
    return progress


def _tidy_folder(
    paths: RunPaths, preflight: Preflight, assembled: Assembled, progress: Progress, *, is_new: bool, say: Say
) -> None:
    """Make the folder agree with the step that the run starts from: remove later lines, write what is missing.

    Args:
        paths: The run folder.
        preflight: What is known of the run.
        assembled: What trains.
        progress: Where the run starts.
        is_new: Whether it starts from the first step, perhaps again.
        say: Prints a line for the user.
    """
    sweep_aside(paths.folder)
    sweep_aside(paths.checkpoints)
    if is_new and paths.metrics.exists():
        say(f"{paths.checkpoints}: no intact checkpoint; starting again from the first step")
    # The data may have changed if the run starts again, so its accounts are then written in any case.
    if is_new or not is_intact(paths.ledger):
        write_json_atomic(paths.ledger, json.loads(json.dumps(_ledger_of(preflight), default=str)))
    if is_new or not is_intact(paths.environment):
        environment = describe_environment(
            assembled.learner.ranks.device,
            data=preflight.prepared.fingerprint,
            template=preflight.chat.template.fingerprint,
            encoder=preflight.chat.fingerprint,
        )
        write_json_atomic(paths.environment, environment)
    # Step 0 has lines too: the evaluation before the first step, which a new run makes again.
    last = -1 if is_new else progress.step
    sampled = -1 if is_new else progress.sampled
    rewind_lines(paths.samples, step=last, sampled=sampled)
    lost = progress.step - rewind_lines(paths.metrics, step=last, sampled=sampled)
    if lost:
        say(
            f"{paths.metrics}: damaged; the lines of {lost} of {progress.step} steps are lost. The run itself is intact"
        )


def _ledger_of(preflight: Preflight) -> dict[str, Any]:
    """Return the content of ledger.json: the accounts of the rows, and the warnings."""
    return {**preflight.prepared.to_json(), "warnings": [warning.to_json() for warning in preflight.warnings]}


def _recorder(
    paths: RunPaths,
    preflight: Preflight,
    identity: Mapping[str, Any],
    progress: Progress,
    *,
    is_first: bool,
    quiet: bool,
    mirror: Mirror | None,
) -> contextlib.AbstractContextManager[Recorder]:
    recipe = preflight.recipe
    return open_recorder(
        paths,
        checkpoint=recipe.checkpoint,
        tracking=recipe.tracking,
        settings=recipe.model_dump(mode="json"),
        identity=identity,
        num_steps=preflight.order.num_steps,
        done=progress.step,
        is_first=is_first,
        quiet=quiet,
        mirror=mirror,
    )


def _finish(
    paths: RunPaths,
    preflight: Preflight,
    assembled: Assembled,
    progress: Progress,
    *,
    taken: RunTime,
    memory: Mapping[str, float],
    say: Say,
) -> None:
    """Write the model of the last or the best step, then the results.

    The first process alone calls this; every process, where each has read its shard alone.
    """
    recipe, ranks = preflight.recipe, assembled.learner.ranks
    best = progress.best_step if recipe.checkpoint.final == "best" else None
    step = progress.step if best is None else best
    model, weights = assembled.model, assembled.learner.weights
    if assembled.learner.sharded and not assembled.by_rows:
        # The shards are put together on the CPU, where the whole model has room.
        model, _ = load_trainable(preflight, torch.device("cpu"))
        weights = Weights(model, preflight.precision)
    if step != progress.step:
        say(f"the model is that of step {step}, the best on held-out data")
    with work(f"reading the checkpoint of step {step}"):
        restore_weights(weights, open_checkpoint(step_folder(paths.checkpoints, step)))
    for optimizer in assembled.learner.optimizers:
        optimizer.state.clear()  # its memory is needed to load the written model again
    prepared, location = preflight.prepared, preflight.location
    examples = examples_to_check(prepared.heldout, prepared.train)
    if assembled.by_rows:
        if ranks.device.type == "cpu":
            return_freed_memory()
        written = save_shards(
            model,
            assembled.learner.loss,
            preflight.chat,
            paths,
            settings=recipe.model,
            location=location,
            compute=preflight.precision.compute,
            examples=examples,
            ranks=ranks,
        )
    else:
        written = save_trained(
            model,
            preflight.chat,
            paths,
            settings=recipe.model,
            seed=recipe.training.seed,
            location=location,
            change=preflight.change,
            examples=examples,
        )
    if not ranks.is_first:
        return
    heldout = write_results(
        paths,
        progress,
        num_examples=preflight.order.num_examples,
        num_seen=preflight.order.seen_until(progress.step),
        seconds=taken.here,
        memory=memory,
        written=written,
        warnings=preflight.warnings,
    )
    write_cards(paths, preflight.chat)
    _say_groups(closing_block(paths, recipe, written=written.words, heldout=heldout, time=taken), say)


def as_card(say: Say) -> Say:
    """Return a function that prints lines as those of a run's card (see `CardLine`), and headings as they are."""

    def say_card(line: str) -> None:
        say(line if isinstance(line, Heading) else CardLine(line))

    return say_card


def _say_groups(groups: Sequence[CardGroup], say: Say) -> None:
    for group in groups:
        if group.title:
            say(Heading(group.title))
        for line in group.lines():
            say(line)
