from __future__ import annotations

from pathlib import Path

from tests.training.snapshots import damage, save

from instil.files import sweep_aside
from instil.training.checkpoints.checkpoint import (
    step_folder,
)
from instil.training.checkpoints.retention import checkpoint_folders, latest_checkpoint, prune_checkpoints


def test_all_damaged_gives_none(tmp_path: Path):
    save(tmp_path, 1)
    damage(step_folder(tmp_path, 1) / "state.json", "removed")
    said: list[str] = []
    assert latest_checkpoint(tmp_path, say=said.append) is None
    assert len(said) == 1


def test_keep_last_and_best_decide_what_stays(tmp_path: Path):
    save(tmp_path, 1, 2, 3, 4, 5)
    prune_checkpoints(tmp_path, newest=5, keep_last=2, keep_step=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-000002", "step-000004", "step-000005"]
    assert sweep_aside(tmp_path) == []


def test_damaged_later_checkpoints_do_not_push_out_the_one_that_is_whole(tmp_path: Path):
    save(tmp_path, 2, 4, 6)
    for step in (4, 6):
        damage(step_folder(tmp_path, step) / "state.json", "bit flipped")
    save(tmp_path, 3)
    prune_checkpoints(tmp_path, newest=3, keep_last=1, keep_step=None)
    found = latest_checkpoint(tmp_path, say=print)
    assert found is not None
    assert found.progress.step == 3


def test_a_million_steps_are_later_than_fewer_and_a_persons_copy_is_left_alone(tmp_path: Path):
    save(tmp_path, 999_999, 1_000_000)
    (tmp_path / "step-000001-mine").mkdir()
    prune_checkpoints(tmp_path, newest=1_000_000, keep_last=1, keep_step=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001-mine", "step-1000000"]
