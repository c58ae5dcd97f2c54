"""The figure of a run: whole, empty, going on, resumed, damaged; and in a notebook."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest

from instil.errors import RunError
from instil.training.records.loss_figure import loss_figure, points_of
from instil.training.records.run_folder import Run


def curves(figure) -> dict[str, list[float]]:
    """Return the steps of each labelled line."""
    (axes,) = figure.axes
    return {line.get_label(): list(line.get_xdata()) for line in axes.lines if not line.get_label().startswith("_")}


def test_the_plot_has_both_losses(reference: Run, tmp_path: Path):
    from matplotlib.figure import Figure

    figure = reference.plot(tmp_path / "a" / ".." / "loss.svg") if (tmp_path / "a").mkdir() else reference.plot()
    assert isinstance(figure, Figure)
    assert curves(figure) == {"training": list(range(1, 13)), "held-out": [0, 4, 8, 12]}
    assert "matplotlib.pyplot" not in sys.modules or figure.canvas.manager is None


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
