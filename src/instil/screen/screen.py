"""`Screen`: what a verb prints with.

On a terminal, lines are wrapped between words and coloured by meaning. A pipe or a file gets the same words as plain
text, one line each, so that programs and `grep` can read them. Warnings go to standard error there: whoever pipes a
result sees them, and the result is without them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from instil.screen.bars import Bar, drawn_on, work
from instil.screen.consoles import is_terminal, make_console
from instil.screen.tables import Column, Row, plain_table, print_table
from instil.screen.wrapping import name_of, print_wrapped, styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FACT_STYLES = {"warning": "yellow", "error": "bold red", "note": "dim"}


class Heading(str):
    """A line that is a section's title, for functions that print lines, such as `Screen.say`."""

    __slots__ = ()


def under_heading(title: str, say: Callable[[str], object]) -> Callable[[str], None]:
    """Return a function that passes lines to `say`, with a title before the first of them."""
    titles = [Heading(title)]

    def say_under(line: str) -> None:
        if titles:
            say(titles.pop())
        say(line)

    return say_under


def say_nothing(line: str) -> None:
    """Take the place of a function that prints lines, where none is wanted."""


class Screen:
    """One of the two standard streams, as verbs print on it.

    Example:
        >>> screen = Screen()
        >>> screen.facts([("model", "demo"), ("rows", "7,473")])
        model demo
        rows  7,473
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False, console: Console | None = None) -> None:
        """Make a screen.

        Args:
            stderr: Print on standard error: what is not the result of the verb.
            quiet: Print only results, warnings and errors: no headings' notes, no bars.
            console: A console to print on instead.
        """
        self.quiet = quiet
        self._stderr = stderr
        self._own = console
        self._is_empty = True
        self._title = ""
        """A heading that a pipe gets with what is below it: one that has only warnings below it is left out."""
        self._only_warns = False

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        if self._own is not None:
            return self._own.is_terminal
        return is_terminal(sys.stderr if self._stderr else sys.stdout)

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where lines are not wrapped."""
        return self._console().width if self.is_terminal else None

    def heading(self, text: str) -> None:
        """Print a section's title, with an empty line before it unless it is the first thing on this screen."""
        if not self.is_terminal:
            if self._title and not self._only_warns:
                self._plain_title()
            self._title, self._only_warns = text, False
            return
        if not self._is_empty:
            self._plain("")
        self._print(text, style="bold")

    def facts(self, facts: Sequence[tuple[str, str]], *, width: int = 0) -> None:
        """Print names and values, the values aligned. A value's later lines stand below its first one.

        Facts named "warning", "note" and "error" have the colour of their meaning.

        Args:
            facts: Name and value of each; a line break in a value starts a new line.
            width: Least width of the names' column.
        """
        from rich.cells import cell_len

        width = max([width, *(cell_len(name) for name, _ in facts)])
        for name, value in facts:
            if name.strip() == "warning" and self._warns_aside:
                self.warn(value)
                continue
            for number, line in enumerate(value.split("\n")):
                head = "" if number else name
                head += " " * (width + 1 - cell_len(head))
                style = FACT_STYLES.get(name.strip(), "")
                if self.is_terminal:
                    text = styled(head + line, style, figures=not style)
                    if not style:
                        text.stylize("cyan", 0, len(head))
                    print_wrapped(self._console(), text, indent=width + 1)
                else:
                    self._plain((head + line).rstrip())
        self._is_empty = False

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Print a table: aligned, numbers right. It is folded between words to fit a terminal, never in a pipe."""
        if self.is_terminal:
            print_table(self._console(), columns, rows)
        else:
            self._plain(plain_table(columns, rows))
        self._is_empty = False

    def line(self, text: str = "", *, style: str = "") -> None:
        """Print a line of the result; several if the text has several.

        Args:
            text: The text.
            style: A style of rich, on a terminal.
        """
        self._print(text, style=style)

    def text(self, text: Text) -> None:
        """Print coloured text without wrapping it between words, such as tokens; a pipe gets it plain."""
        if self.is_terminal:
            self._console().print(text, soft_wrap=True)
        else:
            self._plain(text.plain)
        self._is_empty = False

    def say(self, text: str) -> None:
        """Print a line of a run by its first word: a warning yellow, a note dim, a heading bold; nothing if quiet."""
        if self.quiet:
            return
        if isinstance(text, Heading):
            self.heading(text)
            return
        style = FACT_STYLES.get(text.lstrip().partition(" ")[0].rstrip(":"), "")
        if style == FACT_STYLES["warning"] and self._warns_aside:
            self.warn(text.lstrip().removeprefix("warning").lstrip(": "))
            return
        name = "" if style or not self.is_terminal else name_of(text)
        self._print(text, style=style, name=name)

    def note(self, text: str) -> None:
        """Print what is not the result: dim, and nothing if quiet."""
        if not self.quiet:
            self._print(text, style="dim")

    def hint(self, text: str) -> None:
        """Print what to do next: dim, on a terminal only, and nothing if quiet."""
        if self.is_terminal:
            self.note(text)

    def done(self, text: str) -> None:
        """Print that something succeeded, and where it is: green, and nothing if quiet."""
        if not self.quiet:
            self._print(text, style="green")

    def warn(self, text: str) -> None:
        """Print a warning, yellow. A text that does not begin with "warning" gets the word."""
        text = text if text.startswith("warning") else f"warning: {text}"
        if self._warns_aside:
            self._only_warns = True
            Screen(stderr=True).warn(text)
        else:
            self._print(text, style="yellow")

    def error(self, text: str) -> None:
        """Print an error: the word red and bold."""
        self._print(text, prefix="error: ", prefix_style="bold red")

    @contextlib.contextmanager
    def bar(self, what: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
        """Show a bar while the context is open; it is removed at the end. A pipe and a quiet screen get none.

        Args:
            what: What is going on, such as "reading".
            total: How much there is; None where it is not known.
            unit: What is counted, such as "rows"; "bytes" are shown as sizes.
        """
        console = None if self._own is None or not self._own.is_terminal else self._own
        with work(what, total=total, unit=unit, shown=not self.quiet, console=console) as bar:
            yield bar

    @property
    def _warns_aside(self) -> bool:
        """Whether warnings go to standard error: standard output is a pipe or a file."""
        return self._own is None and not self._stderr and not self.is_terminal

    def _console(self) -> Console:
        # A line must go above the bars, so it goes through the console that draws them.
        return self._own or drawn_on() or make_console(stderr=self._stderr)

    def _print(self, text: str, *, style: str = "", prefix: str = "", prefix_style: str = "", name: str = "") -> None:
        if not self.is_terminal:
            self._plain(prefix + text)
            self._is_empty = False
            return
        self._is_empty = False
        console = self._console()
        for number, line in enumerate((prefix + text).split("\n")):
            shown = styled(line, style, figures=not style)
            if not number and prefix:
                shown.stylize(prefix_style, 0, len(prefix))
            shown.stylize("cyan", 0, len(name))
            print_wrapped(console, shown)

    def _plain(self, text: str) -> None:
        if self._title:
            self._plain_title()
        if self._own is not None:
            self._own.print(text, soft_wrap=True, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr if self._stderr else sys.stdout, flush=True)

    def _plain_title(self) -> None:
        """Print the heading that waits, after an empty line unless it is the first thing on this screen."""
        title, self._title = self._title, ""
        self._plain(title if self._is_empty else f"\n{title}")
        self._is_empty = False
