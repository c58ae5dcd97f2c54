"""Write what happens in a run: metrics, picture, samples, trackers, checkpoints.

The loop reports every step and evaluation here. On all processes but the first, the recorder writes its part of the
checkpoints and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instil.recipe import CheckpointSettings, TrackingSettings
from instil.screen import work
from instil.training.checkpoints.capture import take_snapshot
from instil.training.checkpoints.checkpoint import Progress, save_checkpoint
from instil.training.checkpoints.mirror import Mirror
from instil.training.checkpoints.retention import prune_checkpoints
from instil.training.memory.usage import memory_mb
from instil.training.records.loss_figure import draw_loss
from instil.training.records.metrics import Metrics, read_metrics
from instil.training.records.progress_bar import ProgressBar
from instil.training.records.run_folder import RunPaths, run_name
from instil.training.records.samples import Drawn
from instil.training.records.trackers import Tracker, open_trackers
from instil.training.step.learner import Learner
from instil.training.step.order import Members
from instil.training.step.preference_step import Compared
from instil.training.step.take_step import StepResult

PICTURE_EVERY = 10.0
"""Seconds until an evaluation draws the picture again. Drawing takes longer than the steps of a small model."""


class Recorder:
    """The open writers of a run folder; made by `open_recorder`."""

    def __init__(
        self,
        paths: RunPaths,
        checkpoint: CheckpointSettings,
        *,
        identity: Mapping[str, Any],
        metrics: Metrics | None,
        bar: ProgressBar,
        trackers: Sequence[Tracker],
        mirror: Mirror | None = None,
    ) -> None:
        self._paths = paths
        self._checkpoint = checkpoint
        self._identity = identity
        self._metrics = metrics
        self._bar = bar
        self._trackers = trackers
        self._mirror = mirror
        # The first evaluation is before the first step, where there is no curve to draw yet.
        self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line for the user, on the first process only."""
        self._bar.say(text)

    def step(self, members: Members, result: StepResult, *, learning_rate: float) -> None:
        """Record a step."""
        line: dict[str, Any] = {
            "step": members.step,
            "epoch": members.epoch,
            "examples": len(members.indices),
            "loss": result.loss,
            "learning_rate": learning_rate,
            "gradient_norm": result.gradient_norm,
            "tokens": result.tokens,
            "trained_tokens": result.trained_tokens,
            "micro_batch_tokens": result.cut.micro_batch_tokens,
            "moved": result.moved,
            "memory_mb": round(memory_mb(), 1),
            "seconds": result.seconds,
            **({} if result.compared is None else result.compared.to_json()),
        }
        self._add(line)
        self._bar.step(line)

    def evaluation(
        self, step: int, *, loss: float, seconds: float, is_best: bool, compared: Compared | None = None
    ) -> None:
        """Record a held-out loss and what was found about held-out answers; draw the picture again unless it is recent."""
        figures = {} if compared is None else compared.to_json()
        self._add(
            {
                "step": step,
                "heldout_loss": loss,
                "best": is_best,
                "seconds": {"evaluation": round(seconds, 6)},
                **{f"heldout_{name}": value for name, value in figures.items()},
            }
        )
        self._bar.heldout(step, loss, won=None if compared is None else compared.accuracy)
        if time.monotonic() - self._drawn >= PICTURE_EVERY:
            self.picture()

    def samples(self, step: int, drawn: Drawn) -> None:
        """Record the answers to the fixed prompts, the figures of the recipe's tasks, and what failed."""
        for failure in drawn.failures:
            self.say(f"warning: step {step}: {failure}")
        if drawn.failures:
            self._add({"step": step, "failures": list(drawn.failures)})
        if drawn.figures:
            self._add({"step": step, "tasks": drawn.figures})
        if self._metrics is not None and drawn.answers:
            with self._paths.samples.open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({"step": step, **answer}, ensure_ascii=False) + "\n" for answer in drawn.answers
                )

    def picture(self) -> None:
        """Draw the losses so far."""
        if self._metrics is not None:
            with work("drawing the losses"):
                draw_loss(read_metrics(self._paths.metrics), self._paths.picture, title=run_name(self._paths.folder))
            self._drawn = time.monotonic()

    def save(self, learner: Learner, progress: Progress) -> Path:
        """Write a checkpoint and remove those that need not be kept. Every process calls this."""
        # Metrics first: a resumed run must find the lines of all steps that its checkpoint holds.
        if self._metrics is not None:
            self._metrics.sync()
        ranks = learner.ranks
        with work(f"saving the checkpoint of step {progress.step}"):
            folder = save_checkpoint(
                self._paths.checkpoints,
                take_snapshot(learner, progress, identity=self._identity),
                rank=ranks.rank,
                num_ranks=ranks.size,
                barrier=ranks.wait,
            )
        if ranks.is_first:
            best = progress.best_step if self._checkpoint.keep_best else None
            self._prune(progress.step, best)
            if self._mirror is not None:
                for line in self._mirror.saved(progress.step, best=best):
                    self.say(line)
        return folder

    def _prune(self, newest: int, best: int | None) -> None:
        """Remove the checkpoints that need not be kept, but not the one that is being copied to the mirror."""
        keep = self._checkpoint.keep_last
        with contextlib.nullcontext(set[int]()) if self._mirror is None else self._mirror.pruning() as held:
            prune_checkpoints(self._paths.checkpoints, newest=newest, keep_last=keep, keep_step=best, held=held)

    def _add(self, line: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.add(line)
        for tracker in self._trackers:
            tracker.add(line)


@contextlib.contextmanager
def open_recorder(
    paths: RunPaths,
    *,
    checkpoint: CheckpointSettings,
    tracking: TrackingSettings,
    settings: Mapping[str, Any],
    identity: Mapping[str, Any],
    num_steps: int,
    done: int,
    is_first: bool,
    quiet: bool = False,
    mirror: Mirror | None = None,
) -> Iterator[Recorder]:
    """Open the writers of a run folder, and close them at the end.

    Args:
        paths: The run folder, which exists.
        checkpoint: The recipe's `checkpoint`.
        tracking: The recipe's `tracking`.
        settings: Every setting of the run as JSON values, for the trackers.
        identity: What has to be equal when the run is resumed.
        num_steps: Steps of the run.
        done: Steps done before.
        is_first: Whether this is the first process.
        quiet: Print nothing.
        mirror: Copies the run folder to a bucket; None for no copy.
    """
    earlier = read_metrics(paths.metrics) if is_first and done else []
    bar = ProgressBar(num_steps=num_steps, done=done, quiet=quiet or not is_first, earlier=earlier)
    with contextlib.ExitStack() as stack:
        metrics = Metrics(paths.metrics) if is_first else None
        if metrics is not None:
            stack.callback(metrics.close)
        trackers = open_trackers(tracking, paths, settings=settings, done=done) if is_first else []
        for tracker in trackers:
            stack.callback(tracker.close)
        stack.enter_context(bar)
        yield Recorder(paths, checkpoint, identity=identity, metrics=metrics, bar=bar, trackers=trackers, mirror=mirror)
