"""Let every verb print on a terminal that is not UTF-8: what it cannot show is replaced, by ASCII where that reads.

Why: an error handler of the stream is the one place that all output passes. Data for other programs never goes through
it: files are UTF-8, ``convert … -`` writes bytes, and JSON on the screen is ASCII.
"""

from __future__ import annotations

import codecs
import io
import sys

_NAME = "instil-readable"
_READABLE = str.maketrans(
    {
        "⟦": "[", "⟧": "]", "«": "<<", "»": ">>", "“": '"', "”": '"', "‘": "'", "’": "'",
        "→": "->", "←": "<-", "↔": "<->", "·": "*", "•": "*", "…": "...", "–": "-", "—": "-", "−": "-", "±": "+-", "×": "x",
        "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "✓": "+", "✗": "x", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#",
        "▍": "#", "▎": "#", "▏": "#", "▁": "_", "▂": ".", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "%", "░": ".", "▒": ":", "▓": "#", "─": "-", "━": "-", "│": "|", "┃": "|",
        "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┼": "+",
        "┬": "+", "┴": "+", "⏎": "\\n", "↵": "\\n", "␣": "_", "\u00a0": " ", "\ufeff": "",
    }
)  # fmt: skip


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for what an encoding lacks: a sign that reads alike, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_READABLE)
    return "".join(sign if sign.isascii() else "?" for sign in text), error.end


codecs.register_error(_NAME, _readable)


def print_on_any_terminal() -> None:
    """Set up the standard streams so that no output ends in an error, and no input that they cannot decode."""
    for stream, errors in ((sys.stdout, _NAME), (sys.stderr, _NAME), (sys.stdin, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
