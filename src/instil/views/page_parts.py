"""The pieces of a report: sections, pairs, tables and texts, as HTML whose texts are all escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from instil.errors import InstilError
from instil.views.html import clipped, escaped

MOST_CHARACTERS = 4_000
"""Characters of one text that a report shows."""


def section(title: str, body: Callable[[], str], *, name: str) -> str:
    """Return a section; nothing if its body is empty. What is damaged is named in it, and stops no other section.

    Args:
        title: Its heading; text.
        body: Returns its HTML.
        name: Its id in the page.
    """
    try:
        content = body()
    except InstilError as error:
        content = mark(str(error), "error")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:  # valid JSON, but not a run's
        content = mark(f"damaged: not as a run writes it ({type(error).__name__}: {error})", "error")
    return titled(title, content, name=name)


def titled(title: str, content: str, *, name: str) -> str:
    """Return a section with its content; nothing if that is empty."""
    return f'<section id="{name}"><h2>{escaped(title)}</h2>{content}</section>' if content else ""


def mark(text: str, kind: str) -> str:
    """Return a marked line: an error, a warning or a note."""
    return f'<div class="mark {kind}"><span>{escaped(clipped(text, MOST_CHARACTERS))}</span></div>'


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values."""
    if not rows:
        return ""
    lines = (f"<dt>{escaped(name)}</dt><dd>{escaped(clipped(value, MOST_CHARACTERS))}</dd>" for name, value in rows)
    return f'<dl class="pairs">{"".join(lines)}</dl>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Return a table of texts that scrolls where it is too wide; the columns `numbers` stand right."""

    def cells(row: Sequence[str], tag: str) -> str:
        kinds = ['class="number"' if at in numbers else "" for at in range(len(row))]
        return "".join(
            f"<{tag} {kind}>{escaped(clipped(cell, MOST_CHARACTERS))}</{tag}>".replace(" >", ">")
            for kind, cell in zip(kinds, row, strict=True)
        )

    if not rows:
        return ""
    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells(head, "th")}</tr>{lines}</table></div>'


def text_box(text: str) -> str:
    """Return a text with its line breaks, in a box that scrolls if it is long."""
    return f'<div class="box text">{escaped(clipped(text, MOST_CHARACTERS))}</div>'


def folded(title: str, body: str) -> str:
    """Return a part that a click opens."""
    return f"<details><summary>{escaped(title)}</summary>{body}</details>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of text."""
    return f'<p class="{kind}">{escaped(clipped(text, MOST_CHARACTERS))}</p>' if text else ""


def beside(parts: Sequence[str]) -> str:
    """Return parts side by side where the page is wide enough."""
    return f'<div class="charts">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>' if any(parts) else ""
