from __future__ import annotations

from pathlib import Path

import pytest

from instil.training.records.loss_figure import draw_loss


@pytest.mark.parametrize("num_steps", [0, 1, 120])
def test_the_picture_is_drawn_from_any_number_of_steps(tmp_path: Path, num_steps: int):
    metrics = [{"step": step, "loss": 1.0} for step in range(1, num_steps + 1)] + [{"step": 0, "heldout_loss": 2.0}]
    draw_loss(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
