"""The plot of an evaluation's main figures: a bar for each model with its interval, above an axis with ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instil.evaluation.figure_table import Compared, shown
from instil.evaluation.intervals import IN_HUNDREDS, Interval
from instil.evaluation.meanings import label_of
from instil.views.html import escaped

_VALUE = 90.0
"""Room for the value right of the longest bar."""
_BAR, _GAP, _TOP = 20.0, 14.0, 30.0
_LETTER = 7.0
_ROW = 18.0
"""Height of a further row of the legend."""
_Main = tuple[str, str, "list[Interval | None]"]
"""A task, its main figure, and the figure of each model."""
_MODELS = ("ours", "theirs")


@dataclass(frozen=True, slots=True)
class _Size:
    """Widths of a plot: of the names before the bars and of the bars; the longest name, and the parts of the axis."""

    left: float
    width: float
    most: int
    ticks: int

    def x(self, share: float) -> float:
        return self.left + self.width * min(1.0, max(0.0, share))


_WIDE, _NARROW = _Size(150.0, 560.0, 22, 5), _Size(134.0, 168.0, 16, 4)


def plot(evaluation: Compared, names: Sequence[str]) -> str:
    """Return the bars of the main figures as SVG, for a wide and for a narrow window; empty if there is none.

    Args:
        evaluation: The evaluation.
        names: What its models are called.
    """
    results = evaluation.models
    mains = [
        (task, main, [result.figures.get(task, {}).get(main) for result in results])
        for task, main in evaluation.tasks.items()
        if any(main in result.figures.get(task, {}) for result in results)
    ]
    if not mains:
        return ""
    drawn = [_drawn(mains, names, size) for size in (_WIDE, _NARROW)]
    return f'<div class="in-wide">{drawn[0]}</div><div class="in-narrow">{drawn[1]}</div>'


def _drawn(mains: Sequence[_Main], names: Sequence[str], size: _Size) -> str:
    step = _BAR * len(names) + _GAP
    legend, num_rows = _legend(names, size)
    above = _TOP + _ROW * (num_rows - 1)
    height = above + step * len(mains) + 26
    parts = [*legend, *_axis(above - 6, height - 22, size)]
    for row, (task, main, figures) in enumerate(mains):
        top = above + row * step
        label = label_of(f"{task}.{main}")
        middle = top + _BAR * len(names) / 2
        parts.append(
            f'<text class="name" x="{size.left - 10:g}" y="{middle + 4:g}">{escaped(_short(label, size.most))}</text>'
        )
        for number, figure in enumerate(figures):
            if figure is not None and figure.n:
                parts += _bar(main, figure, top + _BAR * number, _MODELS[number], size)
    words = "; ".join(
        f"{main}: "
        + ", ".join(f"{name} {shown(main, figure)}" for name, figure in zip(names, figures, strict=True) if figure)
        for _, main, figures in mains
    )
    return (
        f'<svg class="plot" viewBox="0 0 {size.left + size.width + _VALUE:g} {height:g}" role="img" aria-label="{escaped(words)}">'
        f"{''.join(parts)}</svg>"
    )


def _bar(name: str, figure: Interval, top: float, model: str, size: _Size) -> list[str]:
    """Return a bar, its interval, and its value right of the bar, above the interval's line."""
    scale = 100.0 if name in IN_HUNDREDS else 1.0
    value, low, high = (size.x(number / scale) for number in (figure.value, figure.low, figure.high))
    middle = top + _BAR - 6
    return [
        f'<rect class="{model}" x="{size.left:g}" y="{top + 2:g}" width="{max(1.0, value - size.left):.1f}" height="{_BAR - 4:g}"/>',
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
        *(
            f'<line class="interval" x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 3:g}" y2="{middle + 3:g}"/>'
            for at in (low, high)
        ),
        f'<text class="value" x="{value + 5:.1f}" y="{top + 11:g}">{escaped(shown(name, figure).value)}</text>',
    ]


def _axis(top: float, bottom: float, size: _Size) -> list[str]:
    parts = []
    for tick in range(size.ticks + 1):
        x, words = size.x(tick / size.ticks), f"{100 * tick // size.ticks}%"
        parts.append(f'<line class="tick" x1="{x:g}" x2="{x:g}" y1="{top:g}" y2="{bottom:g}"/>')
        parts.append(f'<text class="label" x="{x:g}" y="{bottom + 15:g}">{words}</text>')
    return parts


def _legend(names: Sequence[str], size: _Size) -> tuple[list[str], int]:
    """Return what names the colours and the thin line, and the number of rows that it takes."""
    end = size.left + size.width + _VALUE
    start = size.left if size is _WIDE else 0.0
    parts, x, row = [], start, 0
    for name, model in [*zip(names, _MODELS, strict=False), ("thin line: 95% interval", "")]:
        words = _short(name, 40)
        length = 40 + _LETTER * len(words)
        if x + length > end and x > start:
            x, row = start, row + 1
        y = 14 + _ROW * row
        if model:
            parts.append(f'<rect class="{model}" x="{x:g}" y="{y - 10:g}" width="12" height="12"/>')
            parts.append(f'<text x="{x + 17:g}" y="{y:g}">{escaped(words)}</text>')
        else:
            parts.append(f'<text class="soft" x="{x:g}" y="{y:g}">{escaped(words)}</text>')
        x += length
    return parts, row + 1


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
