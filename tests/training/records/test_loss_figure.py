"""The figure of a run: whole, empty, going on, resumed, damaged; and in a notebook."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest

from instil.errors import RunError
from instil.training.records.loss_figure import draw_loss, loss_figure, points_of
from instil.training.records.run_folder import Run


def curves(figure) -> dict[str, list[float]]:
    """Return the steps of each labelled line."""
    (axes,) = figure.axes
    names = ("training", "held-out")
    return {line.get_label(): list(line.get_xdata()) for line in axes.lines if line.get_label() in names}


@pytest.mark.slow
def test_the_plot_has_both_losses(reference: Run, tmp_path: Path):
    from matplotlib.figure import Figure

    figure = reference.plot(tmp_path / "a" / ".." / "loss.svg") if (tmp_path / "a").mkdir() else reference.plot()
    assert isinstance(figure, Figure)
    assert curves(figure) == {"training": list(range(1, 13)), "held-out": [0, 4, 8, 12]}
    assert "matplotlib.pyplot" not in sys.modules or figure.canvas.manager is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begins"), [("loss.png", b"\x89PNG"), ("loss.svg", b"<?xml"), ("loss.pdf", b"%PDF")])
def test_the_plot_is_saved_by_its_suffix(reference: Run, tmp_path: Path, name: str, begins: bytes):
    reference.plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loss.xyz", "the plot cannot be written"),
        ("no/such/folder/loss.png", "the plot cannot be written"),
        ("\0.png", "no path. Expected a path as text or a Path"),
    ],
)
def test_a_file_that_cannot_be_is_an_error_in_plain_words(reference: Run, tmp_path: Path, name: str, said: str):
    with pytest.raises(RunError, match=said):
        reference.plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_or_has_no_step_has_a_plot(reference: Run, tmp_path: Path):
    shutil.copy(reference.folder / "recipe.yaml", tmp_path)
    run = Run.open(tmp_path)
    assert curves(run.plot()) == {}
    lines = (reference.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    first_steps = [line for line in lines if '"step": 1,' in line or '"step": 2,' in line]
    assert len(first_steps) == 2
    # The last line is still being written.
    (tmp_path / "metrics.jsonl").write_text("".join(first_steps) + '{"step": 3, "lo')
    assert curves(run.plot()) == {"training": [1, 2]}
    assert run.plot()._repr_png_().startswith(b"\x89PNG")


def test_losses_without_a_place_are_left_out():
    lines = [{"step": 1, "loss": math.nan}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": math.inf}, {"loss": 2.0}]
    lines += [{"step": 4, "loss": "high"}, {"step": 5, "loss": True}, {"step": None, "loss": 1.0}]
    assert points_of(lines, "loss") == [(2, 1.0)]
    assert curves(loss_figure(lines)) == {"training": [2]}


def test_a_run_that_is_not_there_is_an_error(reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As after `%cd` in a notebook: an empty plot would look like a run without a step."""
    shutil.copytree(reference.folder, tmp_path / "runs" / "a")
    monkeypatch.chdir(tmp_path)
    run = Run.open("runs/a")
    assert len(run.metrics()) > 12
    monkeypatch.chdir(tmp_path / "runs")
    for call in (run.metrics, run.plot):
        with pytest.raises(RunError, match="runs/a: the run is not there"):
            call()
    assert "not found" in repr(run)
    assert "no such" in run._repr_html_()


def metrics_of(losses: list[float], heldout: dict[int, float]) -> list[dict[str, float]]:
    steps = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    return [*steps, *({"step": step, "heldout_loss": loss} for step, loss in heldout.items())]


def joined(figure) -> list[list[float]]:
    """Return the steps of the strokes between held-out losses."""
    (axes,) = figure.axes
    dots = next(line for line in axes.lines if line.get_label() == "held-out")
    strokes = [line for line in axes.lines if line.get_color() == dots.get_color() and line is not dots]
    assert dots.get_linestyle() == "None"
    return [list(line.get_xdata()) for line in strokes]


def test_two_heldout_losses_far_apart_are_not_joined():
    """A straight line far above the training curve looks like a gap that is not there."""
    losses = [3 + 7 / step for step in range(1, 31)]
    assert joined(loss_figure(metrics_of(losses, {0: 9.9, 30: 3.4}))) == []
    near = {step: 9.0 - step / 10 for step in range(0, 31, 3)}
    assert joined(loss_figure(metrics_of(losses, near))) == [[step, step + 3] for step in range(0, 30, 3)]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([3 + 7 / step for step in range(1, 31)], "log"),
        ([3 - step / 20 for step in range(30)], "linear"),
        ([10 / step for step in range(1, 30)] + [0.0], "linear"),
    ],
    ids=["falls early", "falls evenly", "reaches zero"],
)
def test_the_axis_is_logarithmic_where_that_shows_more(losses, scale):
    (axes,) = loss_figure(metrics_of(losses, {})).axes
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == ("loss (logarithmic)" if scale == "log" else "loss")


def test_title_and_legend_name_what_is_drawn(reference: Run):
    (axes,) = reference.plot().axes
    assert axes.get_title("left") == reference.name
    (axes,) = loss_figure(metrics_of([1.0] * 60, {60: 1.0})).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["training, each step", "training, mean of 5 steps", "held-out"]
    # matplotlib warns, in the middle of a run's screen, if looking for the legend's best place takes a second
    assert axes.get_legend()._get_loc() != axes.get_legend().codes["best"]


@pytest.mark.parametrize("name", ["客户服务", "$x_{$", "a" * 300, "x\x1b[31m\n", "🙂"], ids=ascii)
def test_any_name_is_a_title(name: str, tmp_path: Path):
    draw_loss(metrics_of([2.0, 1.0], {}), tmp_path / "loss.png", title=name)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("num_steps", [0, 1, 120])
def test_the_picture_is_drawn_from_any_number_of_steps(tmp_path: Path, num_steps: int):
    metrics = [{"step": step, "loss": 1.0} for step in range(1, num_steps + 1)] + [{"step": 0, "heldout_loss": 2.0}]
    draw_loss(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
