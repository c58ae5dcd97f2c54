"""Screens whose terminal is a string."""

from __future__ import annotations

import io
import re

from rich.console import Console

from instil.screen import Screen

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def a_screen(width: int, *, quiet: bool = False, no_color: bool = False) -> tuple[Screen, io.StringIO]:
    """Return a screen on a terminal of a width, and what it writes to."""
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=width, color_system=None if no_color else "standard",
        no_color=no_color, highlight=False, legacy_windows=False,
    )  # fmt: skip
    return Screen(quiet=quiet, console=console), stream


def lines_of(stream: io.StringIO) -> list[str]:
    """Return what a terminal shows, without colours."""
    return [line.rstrip() for line in ESCAPES.sub("", stream.getvalue()).splitlines()]
