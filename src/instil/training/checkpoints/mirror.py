"""Copy checkpoints and records of a run to a bucket, in the background, while the next steps run.

The newest checkpoint is copied first. Where copying takes longer than training from one to the next, those in between
wait for the end of the run, if they are kept until then. What fails is tried again with growing pauses, and nothing here stops the training.

Why: a thread rather than a process. Copying waits for the network, where Python lets the training run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from instil.errors import first_line_of
from instil.files import remove_folder
from instil.remote.storage import StorageError
from instil.training.checkpoints.checkpoint import step_folder
from instil.training.checkpoints.mirrored_run import CHECKPOINTS, MODELS, RESULTS, MirroredRun
from instil.training.checkpoints.retention import checkpoint_folders, kept_steps, step_of

PATIENCE = 300.0
"""Seconds without any success after which the end of a run gives up."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Mirror:
    """The copy of a run folder in a bucket, kept up to date by a thread.

    Args:
        run: The run in the bucket.
        folder: The run folder.
        keep_last: How many checkpoints to keep there.
    """

    def __init__(self, run: MirroredRun, folder: Path, *, keep_last: int) -> None:
        self._run = run
        self._folder = folder
        self._keep_last = keep_last
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._newest: int | None = None
        self._best: int | None = None
        self._held: int | None = None
        self._copied: set[int] = set()
        self._sent: dict[str, tuple[int, int]] = {}
        self._news: list[str] = []
        self._failure: StorageError | None = None
        self._patience: float | None = None  # set when the run ends
        self._ended_at = 0.0
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()
        self._wake.set()

    @property
    def url(self) -> str:
        """Address of the copy."""
        return self._run.url

    def saved(self, step: int, *, best: int | None) -> list[str]:
        """Have the checkpoint of a step copied.

        Args:
            step: The step, whose checkpoint is on the disk.
            best: Step of the best checkpoint, if it is kept.

        Returns:
            What a person should know about the copies so far, one line each.
        """
        with self._lock:
            self._newest, self._best = step, best
            self._copied.discard(step)
        self._wake.set()
        return self.news()

    def news(self) -> list[str]:
        """Return what a person should know, one line each, and forget it."""
        with self._lock:
            news, self._news = self._news, []
        return news

    @contextlib.contextmanager
    def pruning(self) -> Iterator[set[int]]:
        """Yield the steps that may not be removed from the disk while the context is open."""
        with self._lock:
            yield set() if self._held is None else {self._held}

    def finish(self, *, patience: float | None = None) -> None:
        """Wait until everything is copied, results and model included.

        Args:
            patience: Seconds without any success after which to give up; `PATIENCE` by default.
        """
        self._ended_at = time.monotonic()
        self._patience = PATIENCE if patience is None else patience
        self._wake.set()
        # In short waits, so that a second signal is not held up.
        while self._thread.is_alive():
            self._thread.join(0.1)

    def missing(self) -> str:
        """Return what is not copied and why, for people; an empty string if nothing is missing. Call it after `finish`."""
        steps = [f"the checkpoint of step {step}" for step in self._wanted() if step not in self._copied]
        names = [name for name in self._names() if self._state(name) != self._sent.get(name)]
        shown = names[:3] + ([f"{len(names) - 3} more files"] if len(names) > 3 else [])
        reason = "stopped before the end" if self._failure is None else self._failure.reason
        return f"{', '.join(steps + shown)} ({reason})" if steps or names else ""

    def _wanted(self) -> list[int]:
        """Return the steps to copy that are on the disk, the newest first; when the run has ended, all that are kept."""
        steps = [step for step in (self._newest, self._best) if step is not None]
        if self._patience is not None and self._newest is not None:
            here = map(step_of, checkpoint_folders(self._checkpoints))
            steps += sorted((step for step in here if step < self._newest), reverse=True)
        return [step for step in dict.fromkeys(steps) if self._step_folder(step).is_dir()]

    @property
    def _checkpoints(self) -> Path:
        return self._folder / CHECKPOINTS

    def _step_folder(self, step: int) -> Path:
        return step_folder(self._checkpoints, step)

    def _work(self) -> None:
        pause, last_success = _FIRST_PAUSE, time.monotonic()
        while True:
            self._wake.wait()
            self._wake.clear()
            ending = self._patience is not None
            try:
                self._copy(ending=ending)
            except Exception as error:  # whatever it is, the training goes on, and a person hears of it
                self._failed(error)
                waited = time.monotonic() - max(last_success, self._ended_at)
                if self._patience is not None and (self._failure_lasts() or waited >= self._patience):
                    return
                self._wake.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._wake.set()
                continue
            pause, last_success = _FIRST_PAUSE, time.monotonic()
            if self._failure is not None:
                self._tell(f"{self.url}: reached again, and up to date")
                self._failure = None
            if ending:
                return

    def _failure_lasts(self) -> bool:
        return self._failure is not None and self._failure.lasts

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, StorageError):
            lasts = not isinstance(error, OSError)
            error = StorageError(first_line_of(error), "Check the run folder.", lasts=lasts)
        if self._failure is None:
            self._tell(
                f"warning: {self.url}: the run cannot be copied there now ({error.reason}). "
                f"It goes on and tries again. {error.remedy}"
            )
        self._failure = error

    def _tell(self, line: str) -> None:
        with self._lock:
            self._news.append(line)

    def _copy(self, *, ending: bool) -> None:
        """Copy what is not there yet, and remove the checkpoints that are not kept."""
        while (step := self._take()) is not None:
            try:
                self._run.put_checkpoint(self._step_folder(step), before_manifest=lambda: self._send(ending=False))
            finally:
                self._let_go()
            self._copied.add(step)
            self._run.prune(newest=self._newest or step, keep_last=self._keep_last, keep_step=self._best)
        self._send(ending=ending)

    def _let_go(self) -> None:
        """Allow the step that was copied to be removed, and remove it if the run has saved later ones meanwhile.

        Why only this one: a later checkpoint may be on the disk that `saved` has not told of yet.
        """
        with self._lock:
            held, self._held = self._held, None
            if held is None or self._newest is None or held >= self._newest:
                return
            steps = map(step_of, checkpoint_folders(self._checkpoints))
            kept = kept_steps(steps, newest=self._newest, keep_last=self._keep_last, keep_step=self._best)
            if held not in kept:
                remove_folder(self._step_folder(held))

    def _take(self) -> int | None:
        """Return the next step to copy, which stays on the disk until it is copied."""
        with self._lock:
            self._held = next((step for step in self._wanted() if step not in self._copied), None)
            return self._held

    def _send(self, *, ending: bool) -> None:
        """Copy the files beside the checkpoints that have changed; at the end the model too, and the results last."""
        for name in self._names():
            is_result = name.partition("/")[0] in MODELS or name == RESULTS
            state = self._state(name)
            if state is not None and state != self._sent.get(name) and (ending or not is_result):
                self._run.put(self._folder / name, name)
                self._sent[name] = state

    def _names(self) -> list[str]:
        """Return the files of the run beside its checkpoints, the results last."""
        paths = [path for path in self._folder.iterdir() if path.is_file()]
        paths += [path for name in MODELS for path in (self._folder / name).rglob("*") if path.is_file()]
        names = [path.relative_to(self._folder).as_posix() for path in paths]
        return sorted(
            (name for name in names if not any(part.startswith(".") for part in name.split("/"))),
            key=lambda name: (name == RESULTS, name),
        )

    def _state(self, name: str) -> tuple[int, int] | None:
        """Return what changes when a file does, or None if it is gone."""
        try:
            stat = (self._folder / name).stat()
        except OSError:
            return None
        return stat.st_size, stat.st_mtime_ns
