"""HTML of one output of a notebook: a frame with its style, facts, tables.

Why: an output brings its own style, because a notebook is saved and opened elsewhere. Without the style, which some
viewers remove, the text still says everything.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

from instil.views.visible import plain

MOST_ROWS = 50
"""Rows of a table that are shown."""
MOST_CHARACTERS = 2_000
"""Characters of one text that are shown."""
_SCOPE = ".instil"


def escaped(text: object) -> str:
    r"""Return text for the inside of an element or of a quoted attribute; control characters become visible.

    Example:
        >>> escaped("<b> & '\x1b'")
        '&lt;b&gt; &amp; &#x27;␛&#x27;'
    """
    return html.escape("\n".join(plain(line) for line in str(text).split("\n")), quote=True)


def clipped(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return the beginning and the end of a long text, with what is left out between them.

    Example:
        >>> clipped("abcdefghij", 4)
        'ab … 6 characters not shown … ij'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters not shown … {text[len(text) - half :]}"


def frame(title: str, *, facts: Sequence[str] = (), body: str = "") -> str:
    """Return one output: title, facts and body.

    Args:
        title: What it is; text.
        facts: Short facts beside the title; text.
        body: HTML.
    """
    line = " · ".join(escaped(clipped(fact)) for fact in facts if fact)
    head = f'<div class="head"><b>{escaped(title)}</b> <span class="facts">{line}</span></div>'
    return f'<div class="instil"><style>{style()}</style>{head}{body}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, most: int = MOST_ROWS) -> str:
    """Return a table of texts. Rows beyond `most` are counted instead."""
    if not rows:
        return ""
    lines = [f"<tr>{''.join(f'<td>{escaped(clipped(cell))}</td>' for cell in row)}</tr>" for row in rows[:most]]
    titles = f"<tr>{''.join(f'<th>{escaped(cell)}</th>' for cell in head)}</tr>" if head else ""
    more = left_out(f"{len(rows) - most:,} further rows not shown") if len(rows) > most else ""
    return f"<table>{titles}{''.join(lines)}</table>{more}"


def left_out(what: str) -> str:
    """Return a line that says what is not shown."""
    return f'<div class="left">… {escaped(what)} …</div>'


def warnings(texts: Sequence[str]) -> str:
    """Return a marked line for each text."""
    return "".join(f'<div class="warn">{escaped(clipped(text))}</div>' for text in texts[:MOST_ROWS])


@cache
def style() -> str:
    """Return the style of an output. Every rule is limited to our own elements."""
    return _scoped(style_sheet("tokens.css")) + _scoped(style_sheet("notebook.css"))


def style_sheet(name: str) -> str:
    """Return a style sheet of this package."""
    return _shared_file(name)


def script(name: str) -> str:
    """Return a script of this package, which pages put in front of their own."""
    return _shared_file(name)


def _shared_file(name: str) -> str:
    return resources.files("instil.views").joinpath(name).read_text(encoding="utf-8")


def _scoped(sheet: str) -> str:
    """Limit the rules of a style sheet, one a line, to our own output; ``&`` is the output itself."""
    rules = []
    for selectors, declarations in re.findall(r"^([^/{}]+?) (\{.*\})$", sheet, re.MULTILINE):
        names = [_SCOPE if name == "&" else f"{_SCOPE} {name}" for name in re.split(r",\s*", selectors)]
        rules.append(",".join(names) + declarations)
    return "\n".join(rules)
