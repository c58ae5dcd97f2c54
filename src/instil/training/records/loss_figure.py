"""The picture of losses over the steps, of one run or of several, by matplotlib; `views.curve` has its rules."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.files import atomic_file
from instil.views.chart import Point
from instil.views.curve import JOINED, finite, smooth, wants_log, window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = Sequence[Mapping[str, Any]]
_WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
LINES = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
"""Colours of runs; of more runs, those of a scale from the first to the last."""


def draw_loss(metrics: Metrics, path: Path, *, title: str = "") -> None:
    """Draw training and held-out loss over the steps; the file is replaced in one move."""
    save_figure(loss_figure(metrics, title=title), path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name ends in, else as PNG; the file is replaced in one move."""
    with atomic_file(path) as file, _signs_may_be_missing():
        figure.savefig(file, format=path.suffix.removeprefix(".").lower() or "png")


def loss_figure(metrics: Metrics, *, title: str = "") -> Figure:
    """Return a figure of training and held-out loss over the steps. The caller's matplotlib backend stays as it is.

    Args:
        metrics: The run's metrics.
        title: The name of the run.
    """
    sheet = _shown_figure(figsize=(7, 4), dpi=110)
    sheet.subplots_adjust(left=0.1, right=0.98, bottom=0.12, top=0.91)  # a layout engine would draw everything twice
    axes = sheet.subplots()
    trained, heldout = points_of(metrics, "loss"), points_of(metrics, "heldout_loss")
    last = max([step for step, _ in (*trained, *heldout)], default=1)
    width = window(len(trained))
    if width > 1:
        plot_points(axes, trained, colour=LINES[0], linewidth=0.6, alpha=0.4, label="training, each step")
    name = f"training, mean of {width} steps" if width > 1 else "training"
    plot_points(axes, smooth(trained), colour=LINES[0], linewidth=1.6, label=name)
    plot_heldout(axes, heldout, last=last, colour=LINES[1], label="held-out")
    finish_axes(axes, title=title, name="loss", curves=(smooth(trained), heldout), raw=trained)
    return sheet


def plot_points(axes: Any, points: Sequence[Point], *, colour: Any, **settings: Any) -> None:
    """Draw points joined by a line; one point alone is a dot."""
    if points:
        marker = "." if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, **settings)


def plot_heldout(axes: Any, points: Sequence[Point], *, last: float, colour: Any, label: str) -> None:
    """Draw held-out losses as dots; neighbours are joined where at most a tenth of the axis lies between them."""
    if not points:
        return
    axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linestyle="", color=colour, label=label)
    for one, other in itertools.pairwise(points):
        if other[0] - one[0] <= JOINED * last:
            axes.plot(*zip(one, other, strict=True), color=colour, linewidth=1.0)


def finish_axes(
    axes: Any, *, title: str, name: str, curves: Sequence[Sequence[Point]], raw: Sequence[Point] = ()
) -> None:
    """Write title, names and legend of axes, and make that of the values logarithmic where that shows them better."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    is_log = wants_log(*curves) and all(value > 0 for _, value in raw)
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(plain_text(title), fontsize="medium", loc="left", family=fonts())
    axes.set_xlabel("step")
    axes.set_ylabel(f"{name} (logarithmic)" if is_log else name)
    axes.grid(alpha=0.25)
    if axes.lines:
        # Why: losses fall away from this corner. Looking for the best place warns on the terminal when it takes a second.
        for text in axes.legend(fontsize="small", framealpha=0.85, loc="upper right").get_texts():
            text.set_family(fonts())


def plain_text(text: str, most: int = 80) -> str:
    r"""Return a name for a picture: dollar signs are no formula, and of one that is too long the end, where names differ.

    Example:
        >>> plain_text("a$b", most=8), plain_text("runs/a-long-name", most=8)
        ('a\\$b', '…ng-name')
    """
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return (text if len(text) <= most else "…" + text[1 - most :]).replace("$", r"\$")


@cache
def fonts() -> list[str]:
    """Return the families for names: matplotlib's own font, then the installed ones that have Chinese signs."""
    from matplotlib.font_manager import fontManager

    return ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in fontManager.get_font_names())]


@contextlib.contextmanager
def _signs_may_be_missing() -> Iterator[None]:
    """Ignore that no font has a sign of a name: the picture shows a box for it, and the run's screen stays clean."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def colours_of(num_runs: int) -> list[Any]:
    """Return a colour for each of several runs."""
    if num_runs <= len(LINES):
        return list(LINES[:num_runs])
    from matplotlib import colormaps

    scale = colormaps["viridis"]
    return [scale(0.92 * at / (num_runs - 1)) for at in range(num_runs)]


def _shown_figure(**settings: Any) -> Figure:
    """Return an empty figure that a notebook shows as a picture.

    Why: a notebook shows a plain Figure as one line of text until pyplot is imported, which would choose a backend.
    """
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            with _signs_may_be_missing():
                self.savefig(picture, format="png")
            return picture.getvalue()

    return ShownFigure(**settings)


def points_of(metrics: Metrics, name: str) -> list[Point]:
    """Return step and value of a metric where it is a number; a loss that is not finite has no place on a curve.

    Example:
        >>> points_of([{"step": 1, "loss": 2.0}, {"step": 1, "heldout_loss": 3.0}, {"step": 2, "loss": None}], "loss")
        [(1, 2.0)]
    """
    pairs = [(line.get("step"), line.get(name)) for line in metrics]
    return finite(
        (step, value)
        for step, value in pairs
        if isinstance(step, int) and isinstance(value, int | float) and not isinstance(value, bool)
    )
