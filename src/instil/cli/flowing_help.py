"""``--help`` whose paragraphs fill the terminal: the line breaks of the source are not those of the screen.

Why: cyclopts prints plain text as it stands in the docstring, and its Markdown would change signs such as `*` and `<`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import evolve
from cyclopts.help import DefaultFormatter, InlineText
from rich.text import Text

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions


class FlowingHelp(DefaultFormatter):
    """cyclopts' formatter, with text that is wrapped by the terminal alone."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print a panel of commands or parameters."""
        entries = [evolve(entry, description=_flowing(entry.description)) for entry in panel.entries]
        super().__call__(console, options, panel.copy(entries=entries))

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Print what a command does."""
        super().render_description(console, options, _flowing(description))


def joined_lines(text: str) -> str:
    r"""Return a text with one line for each paragraph and each item of a list.

    Example:
        >>> joined_lines("One\nsentence.\n\nTwo:\n- first\n  of two\n- second")
        'One sentence.\n\nTwo:\n- first of two\n- second'
    """
    return re.sub(r"(?<!\n)\n[ \t]*(?![ \t\n]|- )", " ", text)


def _flowing(description: Any) -> Any:
    """Return a description of cyclopts' with joined lines; what is no plain text stays as it is."""
    if not isinstance(description, InlineText) or not isinstance(description.primary_renderable, Text):
        return description
    plain = description.primary_renderable.plain
    end = plain[len(plain.rstrip("\n")) :]
    flowing = InlineText(Text(joined_lines(plain.rstrip("\n")) + end), force_empty_end=description.force_empty_end)
    flowing.texts = description.texts
    return flowing
