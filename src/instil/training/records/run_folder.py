"""The run folder: where everything is that a run writes, and what a finished run gives back.

Beside `run`, which fills it. Questionable on purpose: the folder appears only when data, template and model have passed, so bad
input leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.errors import RunError
from instil.files import ASIDE, locked
from instil.recipe import Recipe, Source
from instil.training.records.metrics import read_metrics


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Names in a run folder.

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
    def ledger(self) -> Path:
        """The account of rows."""
        return self.folder / "ledger.json"

    @property
    def metrics(self) -> Path:
        """One object a step."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answers to fixed prompts, one object each."""
        return self.folder / "samples.jsonl"

    @property
    def picture(self) -> Path:
        """The loss over the steps."""
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
        """The trained adapter, where the run trained one."""
        return self.folder / "adapter"

    @property
    def trackers(self) -> Path:
        """What the run is called by W&B and Trackio, where it writes to them."""
        return self.folder / "trackers.json"

    @property
    def results(self) -> Path:
        """What came out, in numbers."""
        return self.folder / "results.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was trained, or stopped on request.

    Attributes:
        folder: The run folder.
        finished: Whether it went to its end; if not, ``--resume`` goes on.
        results: What `results.json` holds: steps, losses, tokens, seconds, peak memory.
        signal: The signal that stopped it, or None.
    """

    folder: Path
    finished: bool
    results: Mapping[str, Any]
    signal: int | None = None

    @property
    def model_folder(self) -> Path:
        """The trained model, a plain Hugging Face folder."""
        return RunPaths(self.folder).model

    def metrics(self) -> list[dict[str, Any]]:
        """Read the run's metrics: one object a step, one an evaluation."""
        return read_metrics(RunPaths(self.folder).metrics)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: If it is no run folder, or its results are damaged.
        """
        paths = RunPaths(Path(folder))
        if not paths.recipe.exists():
            raise RunError(f"{folder}: no run folder (no recipe.yaml in it); name a folder that `instil train` wrote")
        results = read_run_json(paths.results)
        return cls(paths.folder, bool(results), results)


def read_run_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run folder; empty where there is no such file.

    Raises:
        RunError: If it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise RunError(f"{path}: damaged; expected a JSON object; remove it, or name another run")
    return found


def is_whole(path: Path) -> bool:
    """Say whether a JSON object of a run folder is there and can be read."""
    try:
        return bool(read_run_json(path))
    except RunError:
        return False


WRITTEN_FIRST = {"checkpoints"}
"""What a run makes before its recipe; a folder with no more than that was killed while it started."""


def check_output(folder: Path, *, resume: bool) -> bool:
    """Say whether there is a run to go on with.

    Args:
        folder: The run folder.
        resume: Whether going on was asked for.

    Raises:
        RunError: If the folder holds something and going on was not asked for, or holds no run, or if there can be no such folder.
    """
    try:
        names = {path.name for path in folder.iterdir()} - {".lock"}
    except FileNotFoundError:
        names = set()
    except OSError as error:  # a file, a loop of links, a name that is too long …
        raise RunError(
            f"{folder}: no folder, and none can be made there ({error.strerror}); expected a new one, or that of a run; set output"
        ) from None
    if not names:
        return False
    if not resume:
        raise RunError(f"{folder}: the run folder exists; go on with --resume, set output, or remove it")
    if "recipe.yaml" in names:
        return True
    if {name for name in names if not name.startswith(ASIDE)} - WRITTEN_FIRST:
        raise RunError(f"{folder}: it is no run folder (no recipe.yaml in it); set another output")
    return False


@contextlib.contextmanager
def new_folder(paths: RunPaths) -> Iterator[None]:
    """Make the run folder and lock it; with its recipe in it, it is a run."""
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{paths.folder}: cannot be made ({error.strerror}); set another output") from None
    with locked(paths.folder):
        if paths.recipe.exists():
            raise RunError(f"{paths.folder}: another run has just been started there; set another output")
        yield


FREE = ("parallel", "checkpoint", "tracking", "threads", "evaluate", "output", "device")
FREE_DATA = ("store", "workers")
FREE_TRAINING = ("micro_batch_tokens", "gradient_checkpointing", "compile", "on_nonfinite", "deterministic")


def resumed_recipe(given: Recipe, saved: Recipe, *, folder: Path) -> Recipe:
    """Give the recipe that a resumed run goes on with: the saved one, with the settings that may change taken from the given.

    Settings that decide the result must be the saved ones, as far as the given recipe names them.

    Raises:
        RunError: If one differs; the message names it.
    """
    now, before = given.model_dump(mode="json"), saved.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for key in _keys(given.model_dump(exclude_unset=True)):
        free = key[0] in FREE or key[-1] in {"training": FREE_TRAINING, "data": FREE_DATA}.get(key[0], ())
        value, old = _at(now, key), _at(before, key)
        if free:
            _put(changes, key, value)
        elif value != old and value not in (None, "auto"):
            raise RunError(
                f"{folder}: {'.'.join(key)} is {said_briefly(value)!r}, but the run was started with {said_briefly(old)!r}; a resumed run must keep it; "
                f"take the change back, or start another run from this one's model: --model.name {folder} --output OTHER"
            )
    return saved.override(changes) if changes else saved


def said_briefly(value: Any) -> Any:
    """Shorten a list of sources to what was set of them: a path alone, or the settings that differ from their defaults."""
    if not (isinstance(value, list) and value and all(isinstance(each, dict) and "path" in each for each in value)):
        return value
    usual = {name: field.get_default(call_default_factory=True) for name, field in Source.model_fields.items()}
    short = [
        {name: set_to for name, set_to in each.items() if name not in usual or set_to != usual[name]} for each in value
    ]
    return [each["path"] if len(each) == 1 else each for each in short]


def _keys(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Name the settings that were set: group and name, or the name alone where there is no group."""
    return [
        key
        for group, value in values.items()
        for key in ([(group, name) for name in value] if isinstance(value, Mapping) else [(group,)])
    ]


def _at(values: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        values = values[part]
    return values


def _put(values: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        values = values.setdefault(part, {})
    values[key[-1]] = value
