"""Bars for work that takes a while: total, rate and time left, redrawn on a terminal and removed at the end.

`work` is called wherever seconds pass: reading, encoding, loading, generating, exporting. It draws only while
`show_work` is on, which the command line turns on for each verb.

Why: a module-wide switch, as for logging. Callbacks through every signature would reach all layers for a display that
changes no result. Only the thread that began the first bar draws; the numbers are read, never locked.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instil.screen.consoles import bar_console, is_terminal
from instil.units import byte_size, duration
from instil.views.visible import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.text import Text

SHORTEST, LONGEST = 8, 30
"""Columns of the bar itself."""
SPINNER, ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
REDRAWN_PER_SECOND = 8
ECHO = 2
"""Columns that stay free at the end of a bar's line: a terminal writes ``^C`` there, and a line that is wrapped by it
cannot be removed."""
FIRST_RATE = 0.5
"""Seconds after which a rate says something."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A piece of text behind a bar.

    Attributes:
        text: The text.
        rank: The larger, the earlier it is left out where the terminal is narrow.
    """

    text: str
    rank: int = 5


class Bar:
    """Progress of one piece of work."""

    def __init__(self, what: str, *, total: float | None, unit: str) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.figures: Sequence[Figure] = ()
        self._first = 0.0
        self._started = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        """Count what was done since the last call."""
        self.done += amount

    def to(self, done: float) -> None:
        """Set how much is done."""
        self.done = done

    def start_at(self, done: float) -> None:
        """Set how much was done before, which does not count for the rate."""
        self.done = self._first = done

    def text(self, text: str) -> None:
        """Show a text behind the bar, such as the file."""
        self.figures = (Figure(text),) if text else ()

    def show(self, figures: Sequence[Figure]) -> None:
        """Show figures behind the bar instead of its own rate."""
        self.figures = figures

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float | None:
        """Amount a second, None before there is one."""
        done, seconds = self.done - self._first, self.seconds
        return done / seconds if done > 0 and seconds >= FIRST_RATE else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, None where it cannot be known."""
        rate = self.rate
        return None if rate is None or not self.total else max(0.0, self.total - self.done) / rate

    def parts(self) -> list[Figure]:
        """Return what stands behind the bar, in order."""
        parts = [Figure(_amount(self.done, self.total, self.unit), 1)] if self.total or self.done else []
        has_rates = any("/s" in figure.text for figure in self.figures)
        if self.rate is not None and not has_rates:
            parts.append(Figure(_rate(self.rate, self.unit), 4))
        parts += self.figures
        if any(figure.text.endswith(" left") for figure in self.figures):
            return [part for part in parts if part.text]
        left = self.seconds_left
        parts.append(Figure(f"{duration(left)} left", 2) if left is not None else Figure(duration(self.seconds), 3))
        return [part for part in parts if part.text]


def fitting(parts: Sequence[Figure], width: int) -> list[str]:
    """Return the texts that fit into a width with two spaces before each, in order; the highest ranks go first.

    Example:
        >>> fitting([Figure("12/400", 1), Figure("541 MB", 6), Figure("3m10s left", 2)], 22)
        ['12/400', '3m10s left']
    """
    from rich.cells import cell_len

    kept = list(parts)
    while kept and sum(cell_len(part.text) + 2 for part in kept) > width:
        kept.remove(max(kept, key=lambda part: part.rank))
    return [part.text for part in kept]


class _Drawing:
    """The bars that are shown, and the region of the terminal that they are drawn in."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.live: Live | None = None
        self.lock = threading.RLock()

    def add(self, bar: Bar, console: Console | None) -> bool:
        """Draw a bar below the others; return False where there is no terminal, or one that counts the same already."""
        with self.lock:
            if bar.unit and any(shown.unit == bar.unit for shown in self.bars):
                return False  # "answering 12 of 64" within "answering 130 of 400"
            if _STARTING.bar is not None and bar is not _STARTING.bar:
                _STARTING.bar.what = _STARTING.then  # the first work has begun, so everything is loaded
            if self.live is None:
                console = console or bar_console()
                if console is None:
                    return False
                self.live = self._start(console)
            self.bars.append(bar)
            self.live.refresh()
            return True

    def remove(self, bar: Bar) -> None:
        """Stop drawing a bar."""
        with self.lock:
            if bar not in self.bars:
                return
            if self.live is not None:
                self.live.refresh()  # its last state, for whoever records the terminal
            self.bars.remove(bar)
            if not self.bars and self.live is not None:
                live, self.live = self.live, None
                live.stop()

    def _start(self, console: Console) -> Live:
        from rich.live import Live

        live = Live(
            self,
            console=console,
            refresh_per_second=REDRAWN_PER_SECOND,
            transient=True,
            # What a library prints must go above the bars; the content of a pipe must not go to the terminal.
            redirect_stdout=is_terminal(sys.stdout),
            redirect_stderr=is_terminal(sys.stderr),
        )
        live.start()
        return live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Why: the last bar is the innermost work. The "starting" bar steps back as soon as there is another one.
        shown = [bar for bar in self.bars if bar is not _STARTING.bar] or self.bars
        for bar in shown:
            yield line_of(bar, options.max_width - 1 - ECHO, ascii_only=options.ascii_only)


def line_of(bar: Bar, width: int, *, ascii_only: bool = False) -> Text:
    """Return a bar as one line of rich text that is not wider than `width`."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    what, parts = plain(bar.what), [Figure(plain(part.text), part.rank) for part in bar.parts()]
    line = Text(no_wrap=True, end="\n")
    room = max(0, width - cell_len(what) - 2)
    if bar.total:
        texts = fitting(parts, room - SHORTEST)
        length = min(LONGEST, room - sum(cell_len(text) + 2 for text in texts))
        full, rest = ("#", "-") if ascii_only else ("━", "─")
        filled = min(length, math.floor(length * min(1.0, bar.done / bar.total)))
        line.append(what + "  ", style="bold")
        line.append(full * filled, style="green")
        line.append(rest * (length - filled), style="dim")
    else:
        texts = fitting(parts, room)
        frames = ASCII_SPINNER if ascii_only else SPINNER
        line.append(frames[int(bar.seconds * REDRAWN_PER_SECOND) % len(frames)] + " ", style="green")
        line.append(what, style="bold")
    for text in texts:
        line.append(f"  {text}")
    if cell_len(line.plain) > width:
        return Text(set_cell_size(line.plain, max(0, width)), no_wrap=True)
    return line


@dataclass(slots=True)
class _Starting:
    """The bar that stands while a verb starts, and its text from the first work on."""

    bar: Bar | None = None
    then: str = ""


_DRAWING = _Drawing()
_STARTING = _Starting()
_shown = threading.Event()


@contextlib.contextmanager
def work(
    what: str, *, total: float | None = None, unit: str = "", shown: bool = False, console: Console | None = None
) -> Iterator[Bar]:
    """Yield a bar for a piece of work. It is drawn while bars are shown (see `show_work`), or if `shown` is true.

    Args:
        what: What is going on, such as "encoding".
        total: How much there is; None where it is not known.
        unit: What is counted, such as "rows"; "bytes" are shown as sizes.
        shown: Draw it even where `show_work` is off.
        console: The terminal to draw on instead of the standard streams'.

    Example:
        >>> with work("encoding", total=2, unit="rows") as bar:
        ...     bar.advance()
        >>> bar.done
        1.0
    """
    bar = Bar(what, total=total, unit=unit)
    if not (shown or _shown.is_set()) or not _DRAWING.add(bar, console):
        yield bar
        return
    try:
        yield bar
    finally:
        _DRAWING.remove(bar)


@contextlib.contextmanager
def show_work(starting: str = "", *, loading: str = "") -> Iterator[None]:
    """Show the bars of `work` while the context is open.

    Args:
        starting: A text to show at once, until `hide_starting` or the end; it steps back behind every other bar.
        loading: What stands behind it until the first work begins.
    """
    before = _shown.is_set()
    _shown.set()
    try:
        if starting:
            _STARTING.then = starting
            _STARTING.bar = Bar(f"{starting}: {loading}" if loading else starting, total=None, unit="")
            _DRAWING.add(_STARTING.bar, None)
        yield
    finally:
        if starting:
            hide_starting()
        if not before:
            _shown.clear()


def hide_starting() -> None:
    """Remove the text that `show_work` shows at the start, for a verb that waits for its user."""
    if _STARTING.bar is not None:
        _DRAWING.remove(_STARTING.bar)
        _STARTING.bar = None


def hide_work() -> None:
    """Show no bars from here on: for a verb that is quiet, or draws itself."""
    hide_starting()
    _shown.clear()


def drawn_on() -> Console | None:
    """Return the console that draws bars at the moment. Lines printed through it go above them."""
    return None if _DRAWING.live is None else _DRAWING.live.console


def _amount(done: float, total: float | None, unit: str) -> str:
    if unit == "bytes":
        return byte_size(done) if total is None else f"{byte_size(done)} of {byte_size(total)}"
    if unit == "steps" and total is not None:
        return f"{done:.0f}/{total:.0f}"
    text = f"{done:,.0f}" if total is None else f"{done:,.0f} of {total:,.0f}"
    return f"{text} {unit}".rstrip()


def _rate(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{byte_size(rate)}/s"
    number = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    return f"{number} {unit}/s" if unit else ""
