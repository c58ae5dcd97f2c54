"""How a verb prints: headings, facts, tables, lines coloured by meaning, and bars for work that takes a while.

Verbs print with a `Screen`. Modules below `cli/` return plain values and do not print; those that take seconds report
how far they are with `work`, which shows nothing unless the verb or the caller shows bars.

Why: one place decides colour, wrapping and what a pipe gets, so that every verb has one look. rich is imported in this
package only where there is a terminal, because a pipe needs none of it.
"""

from instil.screen.bars import Bar, Figure, hide_starting, hide_work, show_work, work
from instil.screen.screen import Heading, Screen, say_nothing, under_heading
from instil.screen.sparkline import sparkline
from instil.screen.tables import Cell, Column

__all__ = [
    "Bar",
    "Cell",
    "Column",
    "Figure",
    "Heading",
    "Screen",
    "hide_starting",
    "hide_work",
    "say_nothing",
    "show_work",
    "sparkline",
    "under_heading",
    "work",
]
