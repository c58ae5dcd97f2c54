"""Terminals: which stream is one, and rich consoles for them.

Why: `isatty` of the stream decides, not rich. FORCE_COLOR would make rich wrap the lines of a pipe.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def is_terminal(stream: Any) -> bool:
    """Return True if a stream is a terminal; a closed or missing stream is none."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def is_dumb() -> bool:
    """Return True if the terminal cannot move its cursor, so that nothing can be redrawn."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def make_console(*, stderr: bool) -> Console:
    """Return a console for a standard stream that is a terminal. NO_COLOR turns its colours off."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, force_jupyter=False)


def bar_console() -> Console | None:
    """Return the console to draw bars on: standard error, or standard output; None where neither is a terminal."""
    if is_dumb():
        return None
    if is_terminal(sys.stderr):
        return make_console(stderr=True)
    return make_console(stderr=False) if is_terminal(sys.stdout) else None
