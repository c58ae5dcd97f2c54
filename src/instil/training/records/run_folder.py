"""The run folder: the names of the files in it, and the `Run` that reads it back.

`run` fills it.

Why: the folder appears only after data, template and model have passed their checks, so that wrong input leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from instil.errors import RunError, first_line_of
from instil.files import ASIDE, OLD, home_path, locked, nearest_beside
from instil.refused_writes import refused_writes
from instil.training.records.loss_figure import draw_loss, loss_figure
from instil.training.records.metrics import Metric, read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Paths in a run folder.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.folder / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device, fingerprints."""
        return self.folder / "environment.json"

    @property
    def card(self) -> Path:
        """The run card, as it was printed: its groups, each with names and values."""
        return self.folder / "card.json"

    @property
    def ledger(self) -> Path:
        """The ledger of the rows."""
        return self.folder / "ledger.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per step and per evaluation."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answers to the fixed prompts, one JSON object each."""
        return self.folder / "samples.jsonl"

    @property
    def picture(self) -> Path:
        """Plot of the loss over the steps."""
        return self.folder / "loss.png"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The trained model, a plain Hugging Face folder."""
        return self.folder / "model"

    @property
    def adapter(self) -> Path:
        """The trained adapter, if the run trained one."""
        return self.folder / "adapter"

    @property
    def trackers(self) -> Path:
        """Ids of this run in W&B and Trackio, if it writes to them."""
        return self.folder / "trackers.json"

    @property
    def results(self) -> Path:
        """The result in numbers; present in a finished run only."""
        return self.folder / "results.json"


def is_run(folder: Path) -> bool:
    """Return True if a run wrote a folder; also if files of it are missing since.

    A recipe of the user's own may be called recipe.yaml too; a run has other files beside it.
    """
    paths = RunPaths(folder)
    # os.path.exists takes a folder that may not be read for one that is not there.
    others = [os.path.exists(path) for path in (paths.metrics, paths.ledger, paths.checkpoints)]
    has_recipe = os.path.exists(paths.recipe)
    if os.path.exists(paths.environment):
        return has_recipe or any(others)
    return has_recipe and any(others)


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A run that ended, or was stopped on request.

    Attributes:
        folder: The run folder.
        finished: Whether it reached its end; if not, ``--resume`` continues it.
        results: The content of `results.json`: steps, losses, tokens, seconds, peak memory.
        signal: The signal that stopped it, or None.
    """

    folder: Path
    finished: bool
    results: Mapping[str, Any]
    signal: int | None = None

    def __fspath__(self) -> str:
        """Return the folder as text, so that a run can stand wherever a path or a model's name can."""
        return str(self.folder)

    def __repr__(self) -> str:
        """Return folder, state, steps and latest losses, on one line."""
        # Why: it imports the recipe's schema, which who lists runs does without.
        from instil.training.records.run_view import run_line

        return run_line(self.folder, self._state, RunPaths(self.folder).metrics)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: settings, curve and results, as they are in the folder now."""
        # Why: it imports the recipe's schema, which who lists runs does without.
        from instil.training.records.run_view import run_html

        return run_html(self.folder, self._state, RunPaths(self.folder).metrics, self.results)

    @property
    def name(self) -> str:
        """The run's name: that of its folder; of a run of a sweep, the sweep's name too."""
        return run_name(self.folder)

    @property
    def _state(self) -> str:
        if self.finished:
            return "finished"
        return "not finished" if self.signal is None else f"stopped by {signal.Signals(self.signal).name}"

    @property
    def model_folder(self) -> Path:
        """The trained model, a plain Hugging Face folder."""
        return RunPaths(self.folder).model

    def metrics(self) -> list[Metric]:
        """Read the run's metrics: a record per step and per evaluation, in order; `Metric` names types and units.

        Records are dicts, so pandas reads them. A run that goes on has those of its steps so far.

        Raises:
            RunError: If the folder or its metrics cannot be read.

        Example:
            >>> [line["loss"] for line in Run.open("runs/demo").metrics() if "loss" in line]  # doctest: +SKIP
        """
        paths = RunPaths(self.folder)
        if not paths.recipe.exists():
            raise RunError(
                f"{self.folder}: the run is not there. Expected its folder. If the working directory has changed, "
                "open the run again by its full path."
            )
        return cast("list[Metric]", read_metrics(paths.metrics))

    def plot(self, path: str | Path | None = None) -> Figure:
        """Return a matplotlib figure of training and held-out loss over the steps, as far as the run is.

        Args:
            path: File to save it into too, such as loss.png or loss.svg.

        Raises:
            RunError: If the folder cannot be read, or the file cannot be written.

        Example:
            >>> Run.open("runs/demo").plot("loss.svg")  # doctest: +SKIP
        """
        metrics = self.metrics()
        if path is not None:
            try:
                with refused_writes(
                    path, raises=RunError, found="the plot cannot be written", otherwise="choose another"
                ):
                    draw_loss(metrics, home_path(path), title=self.name)
            except (TypeError, ValueError) as error:
                raise RunError(
                    f"{path}: the plot cannot be written ({first_line_of(error)}). Expected a file such as loss.png. "
                    "Choose another."
                ) from None
        return loss_figure(metrics, title=self.name)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: If it is not a run folder, or its results are damaged.
        """
        if not isinstance(folder, str | PathLike) or not isinstance(fspath(folder), str):
            raise RunError(f"run: found {folder!r:.80}. Expected the path of a run folder. Pass its name as text.")
        paths = existing_run(folder)
        results = read_run_json(paths.results)
        return cls(paths.folder, bool(results), results)


def run_name(folder: Path) -> str:
    """Return the name of a run: that of its folder; of a run of a sweep below ``runs``, the sweep's name too.

    Example:
        >>> run_name(Path("runs/gsm8k")), run_name(Path("/data/runs/sweep/lr-1e-4")), run_name(Path("/out/a"))
        ('gsm8k', 'sweep/lr-1e-4', 'a')
    """
    folder = folder.resolve()
    is_in_group = folder.parent.parent.name == "runs" and folder.parent.name != "runs"
    return f"{folder.parent.name}/{folder.name}" if is_in_group else folder.name


def read_run_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run folder; empty if there is no such file.

    Raises:
        RunError: If it is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise RunError(f"{path}: damaged. Expected a JSON object. Remove it, or name another run.")
    return value


def is_intact(path: Path) -> bool:
    """Return True if a JSON object of a run folder exists and can be read."""
    try:
        return bool(read_run_json(path))
    except RunError:
        return False


def existing_run(folder: str | PathLike[str]) -> RunPaths:
    """Return the paths of a run that is there.

    Raises:
        RunError: If the folder has no recipe; the closest name beside it is offered.
    """
    paths = RunPaths(home_path(folder))
    if not paths.recipe.exists():
        raise RunError(
            f"{folder}: not a run folder (no recipe.yaml in it){nearest_beside(paths.folder)}. Expected one "
            "that `instil train` wrote. Name another folder."
        )
    return paths


def resume_command(folder: Path) -> str:
    """Return what continues a run or a sweep: a command, because the recipe in its folder names everything else.

    Rows that a Python program passed are not in the folder, so that program has to pass them again.

    Example:
        >>> resume_command(Path("runs/a"))
        'instil train runs/a/recipe.yaml --resume'
    """
    if is_from_python(folder):
        return "instil.train(recipe, data=rows, resume=True) in Python"
    return f"instil train {shlex.quote(str(RunPaths(folder).recipe))} --resume"


def is_from_python(folder: Path) -> bool:
    """Return whether a Python program passed the rows of a run, so that only it can continue the run."""
    # Why: it imports the recipe's schema, which who lists runs does without.
    from instil.recipe import FROM_PYTHON

    with contextlib.suppress(OSError, UnicodeDecodeError):
        return RunPaths(folder).recipe.read_text(encoding="utf-8").startswith(FROM_PYTHON)
    return False


WRITTEN_FIRST = {"checkpoints"}
"""What a run makes before its recipe. A folder with nothing else belongs to a run that was killed while it started."""


def check_output(folder: Path, *, resume: bool) -> bool:
    """Return True if the folder holds a run to resume.

    Args:
        folder: The run folder.
        resume: Whether the user asked to resume.

    Raises:
        RunError: If the folder holds something and `resume` is false, or it holds no run, or no such folder can be
            made.
    """
    try:
        names = {path.name for path in folder.iterdir()} - {".lock"}
    except FileNotFoundError:
        names = set()
        _check_writable(folder)
    except OSError as error:  # a file, a loop of links, a name that is too long …
        raise RunError(
            f"{folder}: not a folder, and none can be made there ({error.strerror}). "
            "Expected a new one, or that of a run. Set output."
        ) from None
    if not names:
        return False
    if not resume:
        raise RunError(
            f"{folder}: the run folder exists. Expected a new one. "
            f"Continue it with {resume_command(folder)}, name another with --output, or remove it."
        )
    if "recipe.yaml" in names:
        return True
    if {name for name in names if not name.startswith((ASIDE, OLD))} - WRITTEN_FIRST:
        raise RunError(f"{folder}: not a run folder (no recipe.yaml in it). Expected an empty one. Set another output.")
    return False


def _check_writable(folder: Path) -> None:
    """Check that a folder can be made: its lowest existing parent takes a new folder, which is removed again.

    Why: data are prepared before the run folder is made, which may take hours.

    Raises:
        RunError: If it cannot.
    """
    above = next(path for path in folder.absolute().parents if path.exists())
    try:
        Path(tempfile.mkdtemp(prefix=ASIDE, dir=above)).rmdir()
    except OSError as error:  # read-only, not ours, no file system that files can be made in, full
        raise RunError(
            f"{folder}: cannot be made: {above} cannot be written to ({error.strerror}). Expected a writable folder. "
            "Set another output."
        ) from None


@contextlib.contextmanager
def new_folder(paths: RunPaths) -> Iterator[None]:
    """Make the run folder, and lock it while the context is open. It becomes a run when its recipe is written."""
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{paths.folder}: cannot be made ({error.strerror}). Expected a writable folder. Set another output."
        ) from None
    with locked(paths.folder):
        if paths.recipe.exists():
            raise RunError(
                f"{paths.folder}: another run has just started there. Expected one run per folder. Set another output."
            )
        yield
