from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from tests.training.snapshots import WEIGHT, damage, save, snapshot

from instil.errors import CheckpointError
from instil.files import sweep_aside
from instil.training.checkpoints.checkpoint import (
    Piece,
    Progress,
    open_checkpoint,
    step_folder,
)
from instil.training.checkpoints.retention import latest_checkpoint


def test_a_checkpoint_gives_back_every_bit(tmp_path: Path):
    save(tmp_path, 3)
    found = open_checkpoint(step_folder(tmp_path, 3))
    assert found.progress == Progress(step=3, best_loss=1.5, micro_batch_tokens=77)
    assert torch.equal(found.read("weights", "weight"), WEIGHT + 3)
    assert torch.equal(found.read("optimizer", "weight::exp_avg"), WEIGHT * 3)
    assert torch.equal(found.read("optimizer", "weight::step"), torch.tensor(3.0))
    assert found.numbers == {"weight::lr": 0.5}


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path):
    save(tmp_path, 3)
    assert {path.suffix for path in step_folder(tmp_path, 3).iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("rows", [(0, 6), (1, 3), (2, 5), (5, 6)])
def test_pieces_of_several_processes_are_read_by_rows(tmp_path: Path, rows: tuple[int, int]):
    shares = [
        snapshot(4, weight=Piece(WEIGHT[:3], 0, (6, 2))),
        snapshot(4, weight=Piece(WEIGHT[3:5], 3, (6, 2))),
        snapshot(4, weight=Piece(WEIGHT[5:], 5, (6, 2))),
    ]
    # The first process seals, so it comes last here, after all shares are written.
    aside = tmp_path / ".tmp-step-000004"
    from instil.training.checkpoints import checkpoint

    aside.mkdir(parents=True)
    for rank in (1, 2):
        checkpoint._write_share(aside, shares[rank], rank)
    checkpoint._write_share(aside, shares[0], 0)
    checkpoint._seal(aside, shares[0], 3)
    os.replace(aside, step_folder(tmp_path, 4))
    found = open_checkpoint(step_folder(tmp_path, 4))
    assert found.processes == 3
    assert torch.equal(found.read("weights", "weight", *rows), WEIGHT[rows[0] : rows[1]])
    assert found.shapes("weights") == {"weight": (6, 2)}


@pytest.mark.parametrize("how", ["cut short", "bit flipped", "removed"])
def test_damage_to_any_file_is_found_and_the_one_before_is_used(tmp_path: Path, how: str):
    files = 0
    save(tmp_path, 1, 2)
    for path in sorted(step_folder(tmp_path, 2).iterdir()):
        save(tmp_path, 2)
        damage(path, how)
        said: list[str] = []
        found = latest_checkpoint(tmp_path, say=said.append)
        if path.name == "manifest.json" and how == "bit flipped":
            # Its last byte is a bracket: the file no longer parses.
            assert said
        assert found is not None
        assert found.progress.step == 1
        assert "damaged checkpoint" in said[0]
        files += 1
    assert files == 5


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, 1)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instil.training.checkpoints.checkpoint.sync_path", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched.*resume=True"):
        save(tmp_path, 2)
    found = latest_checkpoint(tmp_path, say=print)
    assert found is not None
    assert found.progress.step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001"]


def test_a_full_disk_before_the_first_checkpoint_promises_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instil.training.checkpoints.checkpoint.sync_path", full)
    with pytest.raises(CheckpointError, match=r"no earlier checkpoint.*start again with resume=True") as caught:
        save(tmp_path, 1)
    assert "untouched" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_a_crash_left_aside_is_swept(tmp_path: Path):
    save(tmp_path, 1)
    (tmp_path / ".tmp-step-000002").mkdir()
    (tmp_path / ".tmp-step-000002" / "weights-00000.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-results.json-123").write_text("{")
    assert sweep_aside(tmp_path) == [".tmp-results.json-123", ".tmp-step-000002"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_an_unknown_tensor_is_another_model(tmp_path: Path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        open_checkpoint(step_folder(tmp_path, 1)).read("weights", "other")


def test_a_newer_format_is_named(tmp_path: Path):
    save(tmp_path, 1)
    manifest = step_folder(tmp_path, 1) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 9}))
    with pytest.raises(CheckpointError, match="format 9"):
        open_checkpoint(step_folder(tmp_path, 1))
