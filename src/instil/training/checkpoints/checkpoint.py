"""Save everything that a run needs to resume, and read it back.

A checkpoint is a folder ``step-000100`` that appears in one rename, after every byte in it is on the disk. Each process
writes its pieces of the weights and of the optimizer (safetensors), with a list of them (JSON). ``manifest.json`` holds
the SHA-256 of every file. Nothing is pickled. Random state is not stored: every step seeds its generators from the
run's seed, the step's number and the rank (`order.step_seed`).

Why: pieces are a format of our own, rows ``start … start + n`` of a named tensor. torch.distributed.checkpoint pickles
its metadata by default. With pieces, any number of processes writes and reads the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from instil.errors import CheckpointError
from instil.files import aside_of, put_in_place, remove_folder, sha256_of, sync_path

FORMAT = 1
MANIFEST = "manifest.json"
"""Name of the file that is written last. A checkpoint without it is not whole."""
Kind = Literal["weights", "optimizer"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in numbers.

    Attributes:
        step: Steps done.
        tokens: Tokens of the steps done, context included.
        trained_tokens: Tokens trained (weight above 0).
        skipped: Steps skipped because loss or gradient was not finite.
        seconds: Time spent in steps.
        micro_batch_tokens: Tokens of a micro-batch; a resumed run keeps it.
        asked_tokens: The recipe's `micro_batch_tokens`, 0 for `auto`. A resumed run that requests another one does not
            keep the old size.
        loss_scale: Scale of the loss in fp16, else 1.
        scale_age: Steps since that scale changed.
        best_loss: Lowest held-out loss so far, or None.
        best_step: Its step.
        worse: Evaluations since then, none of which was better.
        evaluated: Step of the latest evaluation. If a later one is due, a stop prevented it; it runs first after
            resuming.
        sampled: Step of the latest sample answers and tasks. They come after the checkpoint of their step; if they are
            behind `evaluated`, a kill prevented them.
        last_loss: Training loss of the latest step.
    """

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    skipped: int = 0
    seconds: float = 0.0
    micro_batch_tokens: int = 0
    asked_tokens: int = 0
    loss_scale: float = 1.0
    scale_age: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    worse: int = 0
    evaluated: int = 0
    sampled: int = 0
    last_loss: float | None = None

    def with_(self, **changes: Any) -> Progress:
        """Return a copy with some numbers changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a named tensor.

    Attributes:
        tensor: The rows. A tensor without dimensions is one piece.
        start: First row.
        shape: Shape of the whole tensor.
    """

    tensor: torch.Tensor
    start: int
    shape: tuple[int, ...]

    @classmethod
    def whole(cls, tensor: torch.Tensor) -> Piece:
        """Return a whole tensor as one piece."""
        return cls(tensor, 0, tuple(tensor.shape))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one process puts into a checkpoint.

    Attributes:
        progress: How far the run is; the same on every process.
        weights: Its pieces of the trained weights, by name.
        optimizer: Its pieces of the optimizer's tensors, by name.
        numbers: The optimizer's state that is not a tensor.
        identity: What has to be equal when the run is resumed (data, number of steps, seed …).
    """

    progress: Progress
    weights: Mapping[str, Piece]
    optimizer: Mapping[str, Piece]
    numbers: Mapping[str, float] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)


def step_folder(checkpoints: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint.

    Example:
        >>> step_folder(Path("checkpoints"), 100).name
        'step-000100'
    """
    return checkpoints / f"step-{step:06d}"


def save_checkpoint(
    checkpoints: Path,
    snapshot: Snapshot,
    *,
    rank: int = 0,
    num_ranks: int = 1,
    barrier: Callable[[], None] = lambda: None,
) -> Path:
    """Write a checkpoint. Every process calls this with its own snapshot.

    Args:
        checkpoints: Folder of the run's checkpoints, on a disk that all processes share.
        snapshot: The part of this process.
        rank: Number of this process.
        num_ranks: Number of processes.
        barrier: Waits for all processes.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: If it cannot be written (disk full …). Earlier checkpoints, if there are any, are untouched.
    """
    folder = step_folder(checkpoints, snapshot.progress.step)
    aside = aside_of(folder, shared=True)
    try:
        if rank == 0:
            remove_folder(aside)
            aside.mkdir(parents=True)
        barrier()
        _write_share(aside, snapshot, rank)
        barrier()
        if rank == 0:
            _seal(aside, snapshot, num_ranks)
            put_in_place(aside, folder, replace=True)
        barrier()
    except (OSError, _safetensors_error()) as error:
        if rank == 0 and aside.exists():
            remove_folder(aside)
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written ({error}). {_remedy(checkpoints)}"
        ) from error
    return folder


def _remedy(checkpoints: Path) -> str:
    if any(checkpoints.glob("step-*")):
        return (
            "Earlier checkpoints are untouched. "
            "Free disk space or set checkpoint.keep_last lower, then continue with --resume."
        )
    return (
        "The run has no earlier checkpoint. Free disk space or fix the folder's permissions, then start again "
        "with --resume."
    )


def _write_share(aside: Path, snapshot: Snapshot, rank: int) -> None:
    from safetensors.torch import save_file

    index: dict[str, Any] = {"files": {}}
    for kind, pieces in (("weights", snapshot.weights), ("optimizer", snapshot.optimizer)):
        path = aside / f"{kind}-{rank:05d}.safetensors"
        tensors = {name: piece.tensor.detach().cpu().contiguous() for name, piece in pieces.items()}
        save_file(tensors, str(path))
        sync_path(path)
        index["files"][path.name] = sha256_of(path)
        index[kind] = {name: {"start": piece.start, "shape": list(piece.shape)} for name, piece in pieces.items()}
    _write_json(aside / f"pieces-{rank:05d}.json", index)


def _seal(aside: Path, snapshot: Snapshot, num_ranks: int) -> None:
    files: dict[str, str] = {}
    for rank in range(num_ranks):
        path = aside / f"pieces-{rank:05d}.json"
        files |= json.loads(path.read_text())["files"] | {path.name: sha256_of(path)}
    state = {
        "progress": asdict(snapshot.progress),
        "optimizer_numbers": dict(snapshot.numbers),
        "identity": dict(snapshot.identity),
        "processes": num_ranks,
    }
    _write_json(aside / "state.json", state)
    files["state.json"] = sha256_of(aside / "state.json")
    _write_json(aside / MANIFEST, {"format": FORMAT, "sha256": files})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    sync_path(path)


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An intact checkpoint; made by `open_checkpoint`.

    Attributes:
        folder: Its folder.
        progress: How far the run was.
        numbers: The optimizer's state that is not a tensor.
        identity: What has to be equal when the run is resumed.
        pieces: The list of pieces of each process that wrote it.
    """

    folder: Path
    progress: Progress
    numbers: Mapping[str, float]
    identity: Mapping[str, Any]
    pieces: tuple[Mapping[str, Any], ...]

    @property
    def processes(self) -> int:
        """Number of processes that wrote it."""
        return len(self.pieces)

    def shapes(self, kind: Kind) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all tensors of a kind."""
        return {name: tuple(piece["shape"]) for index in self.pieces for name, piece in index[kind].items()}

    def pieces_of(self, kind: Kind, name: str) -> list[tuple[int, torch.Tensor]]:
        """Return each piece of a tensor with its first row, in the order of the rows."""
        from safetensors import safe_open

        pieces: list[tuple[int, torch.Tensor]] = []
        for rank, index in enumerate(self.pieces):
            if name in index[kind]:
                with safe_open(str(self.folder / f"{kind}-{rank:05d}.safetensors"), framework="pt") as file:
                    pieces.append((index[kind][name]["start"], file.get_tensor(name)))
        return sorted(pieces, key=lambda piece: piece[0])

    def read(self, kind: Kind, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Read rows of a tensor, from whichever pieces hold them.

        Args:
            kind: Weights or optimizer.
            name: The tensor.
            start: First row.
            stop: Row after the last one; None for the end.

        Raises:
            CheckpointError: If the checkpoint does not hold those rows.
        """
        from safetensors import safe_open

        parts: list[tuple[int, torch.Tensor]] = []
        for rank, index in enumerate(self.pieces):
            piece = index[kind].get(name)
            if piece is None:
                continue
            with safe_open(str(self.folder / f"{kind}-{rank:05d}.safetensors"), framework="pt") as file:
                if not piece["shape"]:  # a number without dimensions has no rows
                    return file.get_tensor(name)  # type: ignore[no-any-return]
                end = piece["shape"][0] if stop is None else stop
                rows = file.get_slice(name)
                first, last = piece["start"], piece["start"] + rows.get_shape()[0]
                if max(first, start) < min(last, end):
                    parts.append((first, rows[max(first, start) - first : min(last, end) - first]))
        if not parts:
            raise CheckpointError(
                f"{self.folder}: it holds no {kind} named {name!r}, so it belongs to another model. "
                "Expected a checkpoint of this run. Resume with the recipe that the run was started with."
            )
        ordered = [part for _, part in sorted(parts, key=lambda part: part[0])]
        return ordered[0] if len(ordered) == 1 else torch.cat(ordered)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check every file of a checkpoint against its checksum, and read its numbers.

    Raises:
        CheckpointError: If a file is missing, truncated or changed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, checksum in manifest["sha256"].items():
            if sha256_of(folder / name) != checksum:
                raise CheckpointError(
                    f"{folder / name}: its checksum is not the one in manifest.json, so its bytes have changed. "
                    "This checkpoint cannot be used."
                )
        state = json.loads((folder / "state.json").read_text())
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"{folder}: checkpoint format {manifest['format']}. Expected {FORMAT}. "
                "Use the version of instil that wrote it."
            )
        return Checkpoint(
            folder,
            Progress(**{"sampled": state["progress"]["evaluated"]} | state["progress"]),
            state["optimizer_numbers"],
            state["identity"],
            tuple(json.loads((folder / f"pieces-{rank:05d}.json").read_text()) for rank in range(state["processes"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: incomplete or damaged ({error}). This checkpoint cannot be used.") from None
