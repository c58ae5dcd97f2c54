from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instil.errors import MissingPackageError
from instil.recipe import Recipe
from instil.training.telemetry import Metrics, draw_loss, read_metrics, rewind_lines
from instil.training.trackers import open_trackers


def test_rewinding_removes_later_steps_and_a_line_cut_short(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    for step in range(1, 6):
        metrics.add({"step": step, "loss": 1.0 / step})
    metrics.close()
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5]
    rewind_lines(path, step=3)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("num_steps", [0, 1, 120])
def test_the_picture_is_drawn_from_any_number_of_steps(tmp_path: Path, num_steps: int):
    metrics = [{"step": step, "loss": 1.0} for step in range(1, num_steps + 1)] + [{"step": 0, "heldout_loss": 2.0}]
    draw_loss(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
):
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'instil\[tracking\]'"):
        open_trackers(Recipe.from_mapping({"tracking": {"to": [tracker]}}), tmp_path)


def test_nothing_is_tracked_unasked(tmp_path: Path):
    assert open_trackers(Recipe(), tmp_path) == []
