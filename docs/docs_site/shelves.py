"""The shelves of the docs: the navigation of the site is made from the lists of links in docs/index.md.

Why: a list of links is read on GitHub too; a table of contents in Sphinx's own syntax is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CONTENTS = ("docs/index", "docs/how-it-works/notes", "course/README")
"""Pages whose lists of links, or tables of numbered links, are tables of contents."""
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^(?:- |\| \d+ \| )\[[^\]]+\]\(([^)#:]+)\.md\)", re.MULTILINE)


def shelves_of(markdown: str) -> dict[str, list[str]]:
    r"""Return the pages that each heading lists, as relative paths without `.md`.

    A list before the first heading has the name "".

    Example:
        >>> shelves_of("# Docs\n\n## Start\n\n- [Install](start/install.md): how.\n")
        {'Start': ['start/install']}
    """
    parts = _HEADING.split(markdown)
    named = zip(["", *parts[1::2]], parts[::2], strict=True)
    return {name: entries for name, text in named if (entries := _ENTRY.findall(text))}


def contents_directives(markdown: str) -> str:
    """Return Sphinx's hidden tables of contents for the lists of a page."""
    directives = []
    for name, entries in shelves_of(markdown).items():
        caption = [f":caption: {name}"] if name else []
        directives.append("\n".join(["```{toctree}", ":hidden:", ":titlesonly:", *caption, *entries, "```"]))
    return "\n\n".join(directives)


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    if page in CONTENTS:
        source[0] = f"{source[0]}\n\n{contents_directives(source[0])}\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the shelves to a build."""
    app.connect("source-read", _add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
