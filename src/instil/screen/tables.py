"""Tables: aligned columns that fit the terminal, or one block for each row where no column can get narrower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from instil.screen.wrapping import print_wrapped, styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Meaning = Literal["", "good", "bad", "warning", "quiet", "figure"]
STYLES: dict[Meaning, str] = {
    "": "", "good": "green", "bad": "red", "warning": "yellow", "quiet": "dim", "figure": "bold",
}  # fmt: skip
GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its head; may be empty.
        number: Its cells are numbers: they stand right, and are not folded.
    """

    name: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell with a colour.

    Attributes:
        text: Its text; a line break starts a new line in the cell.
        meaning: What the colour says.
    """

    text: str
    meaning: Meaning = ""


Row = Sequence["str | Cell"]


def plain_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table as text whose lines are as long as they need, for a pipe or a file.

    Example:
        >>> print(plain_table([Column("run"), Column("loss", number=True)], [["r1", "3.1"], ["long", "12.25"]]))
        run    loss
        r1      3.1
        long  12.25
    """
    from rich.cells import cell_len

    cells = [[column.name for column in columns], *([_text(cell) for cell in row] for row in rows)]
    split = [[cell.split("\n") for cell in row] for row in cells]
    widths = [max(cell_len(line) for row in split for line in row[number]) for number in range(len(columns))]
    lines = []
    for row in split:
        for height in range(max(map(len, row), default=0)):
            parts = []
            for column, cell, width in zip(columns, row, widths, strict=True):
                text = cell[height] if height < len(cell) else ""
                space = " " * (width - cell_len(text))
                parts.append(space + text if column.number else text + space)
            lines.append((" " * GAP).join(parts).rstrip())
    return "\n".join(lines)


def print_table(console: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table on a terminal. Cells are folded between words; if words would be cut, each row is a block."""
    from rich.table import Table
    from rich.text import Text

    if _narrowest(columns, rows) > console.width:
        _print_blocks(console, columns, rows)
        return
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        longest = max(
            [_longest_word(column, column.name), *(_longest_word(column, _text(row[number])) for row in rows)]
        )
        table.add_column(
            Text(column.name), justify="right" if column.number else "left", min_width=longest, overflow="fold"
        )
    for row in rows:
        table.add_row(*(_styled(cell, column) for cell, column in zip(row, columns, strict=True)))
    console.print(table)


def _print_blocks(console: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    from rich.cells import cell_len

    width = max(cell_len(column.name) for column in columns)
    for number, row in enumerate(rows):
        if number:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            if text := _text(cell):
                head = column.name + " " * (width - cell_len(column.name) + GAP)
                style = STYLES[cell.meaning] if isinstance(cell, Cell) else ""
                line = styled(text.replace("\n", ", "), style, figures=column.number)
                print_wrapped(console, line, first=head, indent=width + GAP)


def _narrowest(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    """Return the width that the table needs when every cell is folded between all its words."""
    total = GAP * (len(columns) - 1)
    for number, column in enumerate(columns):
        total += max([_longest_word(column, column.name), *(_longest_word(column, _text(row[number])) for row in rows)])
    return total


def _longest_word(column: Column, text: str) -> int:
    from rich.cells import cell_len

    words = text.split("\n") if column.number else text.split()
    return max(map(cell_len, words), default=0)


def _text(cell: str | Cell) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def _styled(cell: str | Cell, column: Column) -> Text:
    from rich.text import Text

    style = STYLES[cell.meaning] if isinstance(cell, Cell) else "bold" if column.number else ""
    return Text("\n").join(styled(line, style, figures=False) for line in _text(cell).split("\n"))
