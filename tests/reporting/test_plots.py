"""Several runs in one picture: names, colours, what of their evaluations is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from instil.errors import RunError
from instil.reporting.plots import draw_losses, losses_figure, shared_figures
from instil.training.records.run_figures import Figure


def metrics_of(num_steps: int, end: float = 1.0) -> list[dict[str, float]]:
    steps = [{"step": step, "loss": end + 1 / step} for step in range(1, num_steps + 1)]
    return [*steps, {"step": 0, "heldout_loss": 2.0}, {"step": num_steps, "heldout_loss": end}]


def figures(value: float) -> dict[str, Figure]:
    return {
        "exact_match.exact_match": Figure(value, value - 0.1, value + 0.1, 50),
        "length.words": Figure(31, 20, 40, 50),
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_runs", [1, 3, 14])
def test_every_run_has_its_line_and_name(num_runs: int, tmp_path: Path):
    runs = {f"sweep/lr-{n}": metrics_of(20 + n, 1 + n / 10) for n in range(num_runs)}
    sheet = losses_figure(runs, title="", figures={})
    trained, heldout = sheet.axes
    assert [line.get_label() for line in trained.lines if not line.get_label().startswith("_")] == list(runs)
    colours = [line.get_color() for line in trained.lines if not line.get_label().startswith("_")]
    assert len({str(colour) for colour in colours}) == num_runs
    dots = [line for line in heldout.lines if not line.get_label().startswith("_")]
    assert [line.get_color() for line in dots] == colours
    draw_losses(runs, tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_runs_without_a_step_or_an_evaluation_are_drawn_too(tmp_path: Path):
    draw_losses(
        {"new": [], "old": metrics_of(4)}, tmp_path / "all.png", title="客户 $服务", figures={"old": figures(0.5)}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["all.png"]
    sheet = losses_figure({"new": []}, title="", figures={})
    assert [text.get_text() for axes in sheet.axes for text in axes.texts] == ["none", "none"]


def test_only_figures_that_all_have_and_that_are_shares_are_drawn():
    assert shared_figures([figures(0.5), figures(0.75)]) == ["exact_match.exact_match"]
    assert shared_figures([figures(0.5), {}]) == []
    sheet = losses_figure({"a": [], "b": []}, title="", figures={"a": figures(0.5), "b": figures(0.75)})
    assert len(sheet.axes[2].patches) == 2
    assert [label.get_text() for label in sheet.axes[2].get_yticklabels()] == ["exact_match"]


def test_a_picture_that_cannot_be_written_is_an_error_in_plain_words(tmp_path: Path):
    with pytest.raises(RunError, match=r"no/such.*choose another plot"):
        draw_losses({"a": metrics_of(3)}, tmp_path / "no/such/all.png")
