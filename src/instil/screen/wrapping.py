"""Text on a terminal: safe to print, figures bold, wrapped between words with the later lines indented."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from instil.views.visible import SPACE, TAB, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_FIGURES = r"(?<![\w./@:-])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?:[%kMBs]|m\d\ds|h\d\dm)?(?![\w/])"
_ALIGNED = re.compile(r"\s*\S+(?: \S+)*?\s{2,}(?=\S)")
"""A name, and at least two spaces before its value."""
_SPACES = " " + SPACE + TAB


def hanging_indent(line: str) -> int:
    """Return where the later lines of a wrapped line start: below the value of an aligned line, else two further in.

    Example:
        >>> hanging_indent("rows in          7,473"), hanging_indent("  a sentence that is long")
        (17, 4)
    """
    aligned = _ALIGNED.match(line)
    return aligned.end() if aligned else len(line) - len(line.lstrip()) + 2


def name_of(line: str) -> str:
    """Return the name of an aligned line with the spaces before it, or an empty string.

    Example:
        >>> name_of("rows in          7,473"), name_of("a sentence")
        ('rows in', '')
    """
    aligned = _ALIGNED.match(line)
    return aligned.group().rstrip() if aligned else ""


def styled(text: str, style: str = "", *, figures: bool = True) -> Text:
    """Return one line as rich text. What would move the cursor or recolour the terminal is made visible.

    Args:
        text: The line.
        style: A style of rich.
        figures: Make the numbers bold.
    """
    from rich.text import Text

    line = Text(plain(text), style=style)
    if figures:
        line.highlight_regex(_FIGURES, "bold")
    return line


def print_line(console: Console, line: Text) -> None:
    """Print a line: on a terminal wrapped between words, in a pipe or a file as long as it is."""
    if console.is_terminal:
        print_wrapped(console, line)
    else:
        console.print(line, soft_wrap=True)


def wrapped_tokens(text: Text, width: int) -> list[Text]:
    r"""Return coloured tokens as lines of at most `width` columns, wrapped between words.

    Spaces may be shown as signs, which stay at the end of their line. A word that is too long is cut.

    Example:
        >>> from rich.text import Text
        >>> [line.plain for line in wrapped_tokens(Text("one·two·three\nfour"), 9)]
        ['one·two·', 'three', 'four']
    """
    lines: list[Text] = []
    for line in text.split("\n"):
        start = 0
        while start < len(line):
            end = _end_of_line(line.plain, start, width)
            lines.append(line[start:end])
            start = end
    return lines


def _end_of_line(line: str, start: int, width: int) -> int:
    """Return where the line ends that begins at a character: behind a space if one fits, at least one character on."""
    from rich.cells import cell_len

    end, used = start, 0
    while end < len(line) and (end == start or used + cell_len(line[end]) <= width):
        used += cell_len(line[end])
        end += 1
    if end == len(line):
        return end
    spaces = [at for at in range(start + 1, end + 1) if line[at - 1] in _SPACES and line[at] not in _SPACES]
    return spaces[-1] if spaces else end


def print_wrapped(console: Console, line: Text, *, first: str = "", indent: int | None = None) -> None:
    """Print one line, wrapped between words.

    Args:
        console: A terminal.
        line: The line.
        first: What stands before it, without a style.
        indent: Where its later lines start. None finds it (see `hanging_indent`).
    """
    from rich.text import Text

    start = hanging_indent(first + line.plain) if indent is None else indent
    start = start if start <= console.width // 2 else 2
    whole = Text(first)
    whole.append_text(line)
    pieces = list(whole.wrap(console, console.width))
    if len(pieces) > 1:
        # The first line has the whole width, the others what the indent leaves.
        length = len(pieces[0].plain)
        rest = whole[length:]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        pieces = [
            pieces[0],
            *(Text(" " * start).append_text(part) for part in rest.wrap(console, console.width - start)),
        ]
    for piece in pieces:
        piece.rstrip()
        console.print(piece, soft_wrap=True)
