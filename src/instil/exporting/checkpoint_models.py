"""The model of a run as it was at a checkpoint, as a run folder of its own that every command takes.

A finished run's model has the shape, tokenizer and stop ids of all its checkpoints. The weights that trained come from
the checkpoint, the frozen ones from the model or, for an adapter, from its base.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from instil.errors import CheckpointError, ExportError
from instil.files import ASIDE
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings
from instil.model.folder.location import locate, run_folder
from instil.model.folder.saving import write_model_files
from instil.training.checkpoints.checkpoint import Checkpoint, open_checkpoint
from instil.training.checkpoints.retention import checkpoint_folders
from instil.training.records.run_folder import RunPaths


def kept_checkpoints(name: str | Path) -> list[Checkpoint]:
    """Return a run's checkpoints, oldest first.

    Raises:
        ExportError: If the model is no finished run, or none of its checkpoints is there.
        CheckpointError: If one of them is damaged.
    """
    location = locate(name)
    run = run_folder(location)
    if run is None:
        raise ExportError(f"{name}: is no run. Expected one for --every-checkpoint. Name the run's folder.")
    folders = checkpoint_folders(RunPaths(run).checkpoints)
    if not folders:
        raise ExportError(
            f"{run}: holds no checkpoint. Expected some for --every-checkpoint. "
            "Train with a larger checkpoint.keep_last, or leave the option out."
        )
    return [open_checkpoint(folder) for folder in folders]


@contextlib.contextmanager
def checkpoint_as_run(name: str | Path, checkpoint: Checkpoint, *, beside: Path, device: str) -> Iterator[Path]:
    """Make a run folder whose model is that of a checkpoint; it is removed when the context ends.

    Args:
        name: The finished run.
        checkpoint: One of its checkpoints.
        beside: Folder to make it in.
        device: Where to load the model.

    Raises:
        CheckpointError: If the checkpoint is of another model.
    """
    run = run_folder(locate(name))
    assert run is not None
    paths = RunPaths(run)
    adapter = paths.adapter if (paths.adapter / "adapter_config.json").exists() else None
    with tempfile.TemporaryDirectory(dir=beside, prefix=ASIDE) as aside:
        folder = Path(aside)
        for path in (paths.recipe, paths.environment, paths.ledger, paths.results):
            if path.exists():
                shutil.copy2(path, folder / path.name)
        engine = Engine.load(adapter or name, LoadSettings(precision="fp32", device=device))
        assert engine.chat is not None
        _put_weights(engine.model, checkpoint)
        base = None if engine.location is None or adapter is None else engine.location.base_name
        (folder / "model").mkdir()
        write_model_files(engine.model, engine.chat, folder / "model", base=base)
        yield folder


@torch.no_grad()
def _put_weights(model: Any, checkpoint: Checkpoint) -> None:
    parameters = dict(model.named_parameters())
    shapes = checkpoint.shapes("weights")
    other = next(
        (name for name, shape in shapes.items() if tuple(getattr(parameters.get(name), "shape", ())) != shape), None
    )
    if other is not None:
        raise CheckpointError(
            f"{checkpoint.folder}: its trained tensors are not this model's (the first that differs is {other}). "
            "Expected a checkpoint of this run. Export the run without --every-checkpoint."
        )
    for name in shapes:
        parameters[name].copy_(checkpoint.read("weights", name))
