"""Show the answers of several models side by side in a terminal. Each column grows while its model writes."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text


class Columns:
    """A table with one row that is redrawn in place.

    Args:
        names: Column heads.
        console: Where to draw. The default is the terminal.
    """

    def __init__(self, names: Sequence[str], *, console: Console | None = None) -> None:
        self._names = tuple(names)
        self._texts = ["" for _ in names]
        self._live = Live(self._table(), console=console or Console(), refresh_per_second=12)

    def __enter__(self) -> Columns:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def write(self, number: int, piece: str) -> None:
        """Append text to a column."""
        self._texts[number] += piece
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(*(Column(Text(name)) for name in self._names), expand=True)
        table.add_row(*map(Text, self._texts))
        return table
