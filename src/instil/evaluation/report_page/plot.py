"""The plot of an evaluation's main figures: a bar for each model with its interval, above an axis with ticks."""

from __future__ import annotations

from collections.abc import Sequence

from instil.evaluation.figure_table import Compared, shown
from instil.evaluation.intervals import IN_HUNDREDS, Interval
from instil.views.html import escaped

_LEFT, _WIDTH, _VALUE = 150.0, 560.0, 90.0
_BAR, _GAP, _TOP = 20.0, 14.0, 30.0
_TICKS = 5
_LETTER = 7.0
_MODELS = ("ours", "theirs")


def plot(evaluation: Compared, names: Sequence[str]) -> str:
    """Return the bars of the main figures as SVG; empty if there is none.

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
    step = _BAR * len(results) + _GAP
    height = _TOP + step * len(mains) + 26
    bottom = height - 22
    parts = [*_legend(names), *_axis(_TOP - 6, bottom)]
    for row, (task, main, figures) in enumerate(mains):
        top = _TOP + row * step
        label = main if main == task else f"{task}: {main}"
        middle = top + _BAR * len(results) / 2
        parts.append(f'<text class="name" x="{_LEFT - 10}" y="{middle + 4:g}">{escaped(_short(label))}</text>')
        for number, figure in enumerate(figures):
            if figure is not None and figure.n:
                parts += _bar(main, figure, top + _BAR * number, _MODELS[number])
    words = "; ".join(
        f"{main}: "
        + ", ".join(f"{name} {shown(main, figure)}" for name, figure in zip(names, figures, strict=True) if figure)
        for _, main, figures in mains
    )
    return (
        f'<div class="wide-plot"><svg class="plot" viewBox="0 0 {_LEFT + _WIDTH + _VALUE:g} {height:g}" role="img" aria-label="{escaped(words)}">'
        f"{''.join(parts)}</svg></div>"
    )


def _x(share: float) -> float:
    return _LEFT + _WIDTH * min(1.0, max(0.0, share))


def _bar(name: str, figure: Interval, top: float, model: str) -> list[str]:
    """Return a bar, its interval, and its value right of the bar, above the interval's line."""
    scale = 100.0 if name in IN_HUNDREDS else 1.0
    value, low, high = (_x(number / scale) for number in (figure.value, figure.low, figure.high))
    middle = top + _BAR - 6
    return [
        f'<rect class="{model}" x="{_LEFT:g}" y="{top + 2:g}" width="{max(1.0, value - _LEFT):.1f}" height="{_BAR - 4:g}"/>',
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
        *(
            f'<line class="interval" x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 3:g}" y2="{middle + 3:g}"/>'
            for at in (low, high)
        ),
        f'<text class="value" x="{value + 5:.1f}" y="{top + 11:g}">{escaped(shown(name, figure).value)}</text>',
    ]


def _axis(top: float, bottom: float) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        x, words = _x(tick / _TICKS), f"{100 * tick // _TICKS}%"
        parts.append(f'<line class="tick" x1="{x:g}" x2="{x:g}" y1="{top:g}" y2="{bottom:g}"/>')
        parts.append(f'<text class="label" x="{x:g}" y="{bottom + 15:g}">{words}</text>')
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], _LEFT
    for name, model in zip(names, _MODELS, strict=False):
        words = _short(name, 40)
        parts.append(f'<rect class="{model}" x="{x:g}" y="4" width="12" height="12"/>')
        parts.append(f'<text x="{x + 17:g}" y="14">{escaped(words)}</text>')
        x += 40 + _LETTER * len(words)
    parts.append(f'<text class="soft" x="{x:g}" y="14">thin line: 95% interval</text>')
    return parts


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
