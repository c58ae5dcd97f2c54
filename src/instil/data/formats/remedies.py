"""What an error about a row tells its reader to do, in the words of the way in that the reader took.

The formats name settings of a recipe (``data.columns``). `instil.read` and `instil convert` have them as arguments.
`evaluate` and `generate` have none of them: rows that need one are read or converted first.
"""

from __future__ import annotations

import re
import shlex
from typing import TypeAlias, TypeVar

from instil.conversation import ROWS, Place
from instil.data.formats.row_format import Remedies
from instil.errors import DataError

_Error = TypeVar("_Error", bound=DataError)
Replacements: TypeAlias = tuple[tuple[str, str], ...]
_MAPPED = (
    r" with data\.columns, such as --data\.columns\.user '(?P<user>.*?)' --data\.columns\.assistant '(?P<answer>.*?)'"
)
_AS_ARGUMENTS: Replacements = (
    (_MAPPED, r", such as --columns.user '\g<user>' --columns.assistant '\g<answer>'"),
    (r"data\.columns", "--columns"),
    (r"data\.on_bad_row: skip", "--on-bad-row skip"),
    (r"data\.format: (\w+)", r"--from \1"),
    (r"training\.objective: (\w+)", r"--objective \1"),
)


def _first(reading: str, *, columns: str, skip: str, form: str) -> Replacements:
    """Return what replaces the settings where rows are to be read or converted first."""
    example = columns.replace(r"\g<user>", "{question}").replace(r"\g<answer>", "{answer}")
    return (
        (_MAPPED, rf" first, such as {reading}{columns}"),
        (r"with data\.columns", rf"first, such as {reading}{example}"),
        (r"[Ss]et data\.on_bad_row: skip", rf"leave such rows out with {reading}{skip}"),
        (r"data\.on_bad_row: skip", rf"{reading}{skip}"),
        (r"[Ss]et data\.format: (\w+)", rf"Read it with {reading}{form}"),
        # An answer that is judged bad is no reference in any way.
        (r"Set training\.objective: \w+, or leave", "Leave"),
    )


def reworded(error: _Error, remedies: Remedies, place: Place) -> _Error:
    """Return the error with what its reader can do about the row.

    Example:
        >>> error = DataError("a.jsonl:1: holds image data. Leave such rows out with data.on_bad_row: skip.")
        >>> print(reworded(error, "convert", Place("a.jsonl", 1)))
        a.jsonl:1: holds image data. Leave such rows out with instil convert a.jsonl OUT.jsonl --on-bad-row skip.
    """
    text = str(error.args[0])
    for pattern, words in _replacements(remedies, place):
        text = re.sub(pattern, words, text)
    return type(error)(text)


def _replacements(remedies: Remedies, place: Place) -> Replacements:
    if remedies == "arguments":
        return _AS_ARGUMENTS
    if place.source == ROWS:
        return _first(
            "instil.read(rows, ",
            columns=r'columns={"user": "\g<user>", "assistant": "\g<answer>"})',
            skip='on_bad_row="skip")',
            form=r'format="\1")',
        )
    # A backslash in the name of a file is no escape of `re`.
    file = shlex.quote(str(place.source)).replace("\\", "\\\\")
    return _first(
        f"instil convert {file} OUT.jsonl ",
        columns=r"--columns.user '\g<user>' --columns.assistant '\g<answer>'",
        skip="--on-bad-row skip",
        form=r"--from \1",
    )
