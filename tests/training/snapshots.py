"""Small checkpoints of one tensor, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

import torch

from instil.training.checkpoints.checkpoint import (
    Piece,
    Progress,
    Snapshot,
    save_checkpoint,
)

WEIGHT = torch.arange(12.0).reshape(6, 2)


def snapshot(step: int, **pieces: Piece) -> Snapshot:
    weights = pieces or {"weight": Piece.whole(WEIGHT + step)}
    optimizer = {"weight::exp_avg": Piece.whole(WEIGHT * step), "weight::step": Piece.whole(torch.tensor(float(step)))}
    return Snapshot(Progress(step=step, best_loss=1.5, micro_batch_tokens=77), weights, optimizer, {"weight::lr": 0.5})


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, snapshot(step))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[:-1])
    elif how == "bit flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
