"""The table of formats, in the order in which a row is held against them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instil.conversation import Conversation, Place
from instil.data.formats.alpaca import ALPACA
from instil.data.formats.messages import MESSAGES
from instil.data.formats.pattern import PATTERN
from instil.data.formats.preference import PREFERENCE
from instil.data.formats.prompt_completion import PROMPT_COMPLETION
from instil.data.formats.question_answer import PAIRS, QUESTION_ANSWER
from instil.data.formats.row_format import ReadOptions, RowFormat
from instil.data.formats.sharegpt import SHAREGPT
from instil.data.formats.text import TEXT
from instil.data.message_parts import kind_of
from instil.errors import FormatError, RecipeError, nearest

FORMATS: tuple[RowFormat, ...] = (
    PREFERENCE,
    MESSAGES,
    SHAREGPT,
    ALPACA,
    PROMPT_COMPLETION,
    QUESTION_ANSWER,
    TEXT,
    PATTERN,
)
_BY_NAME: Mapping[str, RowFormat] = {each.name: each for each in FORMATS}
_KNOWN_COLUMNS = ("messages", "conversations", "instruction", "input", "output", "prompt", "completion", "chosen",
                  "rejected", "text", "content", *sorted({name for pair in PAIRS for name in pair}))  # fmt: skip
_KNOWN_COLUMNS_OF_LISTS = frozenset({"messages", "conversations", "chosen", "rejected"})
MOST_NAMES, LONGEST_NAME = 12, 40
"""Of the columns that an error lists."""
_FLAT = frozenset({str, int, float, bool, type(None)})
_known_shapes: dict[tuple[tuple[str, ...], tuple[Any, ...]], tuple[RowFormat, str] | None] = {}
"""What rows are, by their columns' names and the kinds of their values: nothing else decides it, but for `_BY_CONTENT`."""
_BY_CONTENT = frozenset({"messages", "conversations", "conversation"})
"""Columns whose text may be a list as JSON, or only text."""
_MEDIA = frozenset({"image", "images", "video", "videos", "audio", "audios"})


def format_named(name: str) -> RowFormat:
    """Give a format by its name.

    Raises:
        RecipeError: If there is none; the nearest name is offered.
    """
    if name not in _BY_NAME:
        raise RecipeError(f"format: unknown {name!r}{nearest(name, _BY_NAME)}; expected auto or {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def recognise(row: Any) -> tuple[RowFormat, str] | None:
    """Find a row's format and what it was recognised by; None where it has none.

    Example:
        >>> found = recognise({"question": "2+2?", "answer": "4"})
        >>> found[0].name, found[1]
        ('question_answer', 'columns question, answer')
    """
    if not isinstance(row, dict) or any(isinstance(row.get(column), str) for column in _BY_CONTENT):
        return _recognise(row)
    kinds = tuple(map(_kind, row.values()))
    if None in kinds:
        return _recognise(row)
    shape = (tuple(row), kinds)
    if shape not in _known_shapes:
        if len(_known_shapes) > 1000:
            _known_shapes.clear()
        _known_shapes[shape] = _recognise(row)
    return _known_shapes[shape]


def _kind(value: Any) -> Any:
    """Give all of a value that can decide its row's format; None where that may be more."""
    if type(value) is not list:
        return type(value) if type(value) in _FLAT else None
    if not value:
        return (list, 0)
    first = value[0]
    return (list, *first) if type(first) is dict else (list, type(first)) if type(first) in _FLAT else None


def _recognise(row: Any) -> tuple[RowFormat, str] | None:
    for candidate in FORMATS:
        evidence = candidate.recognise(row) if isinstance(row, Mapping | list) else ""
        if evidence:
            return candidate, evidence
    return None


def read_row(row: Any, place: Place, *, format_name: str, options: ReadOptions) -> tuple[str, Sequence[Conversation]]:
    """Read a row as the named format, or with ``auto`` as what it is.

    Returns:
        The name of the format it was read as, and its conversations.

    Raises:
        FormatError: If it is in no known format, or holds images, video or audio.
        DataError: If something in it cannot be read.
    """
    if isinstance(row, Mapping) and not _MEDIA.isdisjoint(row):
        media = sorted(key for key in _MEDIA & row.keys() if row[key])
        if media and not options.columns:
            raise FormatError(
                f"{place}: column {media[0]!r} holds {media[0].rstrip('s')} data; only text can be trained on; "
                "remove such rows, or leave them out with data.on_bad_row: skip"
            )
    if format_name != "auto":
        return format_name, _read_named(row, place, format_named(format_name), options)
    if options.columns:
        return "pattern", PATTERN.read(row, place, options)
    found = recognise(row)
    if found is None:
        raise FormatError(_unknown(row, place))
    return found[0].name, found[0].read(row, place, options)


def _read_named(row: Any, place: Place, named: RowFormat, options: ReadOptions) -> Sequence[Conversation]:
    if named is PATTERN or (isinstance(row, Mapping | list) and named.recognise(row)):
        return named.read(row, place, options)
    found = recognise(row)
    if found is not None:
        raise FormatError(
            f"{place}: looks like {found[0].name} ({found[1]}), not {named.name}; expected {named.columns}; "
            "set data.format: auto to read each row as what it is"
        )
    return named.read(row, place, options)


SAY_COLUMNS = 'say what they mean with data.columns, such as user: "{title}", assistant: "{summary}"'


def _unknown(row: Any, place: Place) -> str:
    if not isinstance(row, Mapping):
        return f"{place}: found {kind_of(row)}; expected an object of a known format; mend the row"
    odd = [f"{key!r} holds {kind_of(row[key])}" for key in row if key in _KNOWN_COLUMNS and _is_odd(row[key])]
    columns = (_listed(row) or "none") + (f" ({', '.join(odd)})" if odd else "")
    hints = [
        f"did you mean {close!r} by {key!r}?"
        for key in map(str, row)
        if key not in _KNOWN_COLUMNS and (close := _nearest_column(key))
    ]
    known = "; ".join(f"{each.name} ({each.columns})" for each in FORMATS if each is not PATTERN)
    wrapped = _wrapped(row)
    if not row:
        remedy = "it is empty, or all its columns are null; remove the row, or leave it out with data.on_bad_row: skip"
    elif _is_by_column(row):
        remedy = "the columns are lists of equal length, one value a row; write one object a row instead, for example with pandas: "
        remedy += "to_json(…, orient='records', lines=True)"
    elif wrapped:
        remedy = f"the rows are inside {wrapped!r}; take them out, for example: jq -c '.{wrapped}[]'"
    elif hints:
        remedy = f"{hints[0]} rename it, or {SAY_COLUMNS}"
    elif odd:
        remedy = "mend or remove the row"
    else:
        remedy = SAY_COLUMNS
    return f"{place}: found columns {columns}; expected one of: {known}; {remedy}"


def _listed(names: Iterable[Any]) -> str:
    """Give names in a list that stays readable: those of a file that holds no rows at all may be many."""
    shown = [text if len(text := str(name)) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…" for name in names]
    more = [f"… and {len(shown) - MOST_NAMES} more"] if len(shown) > MOST_NAMES else []
    return ", ".join([*shown[:MOST_NAMES], *more])


def _is_odd(value: Any) -> bool:
    """Tell a value that no known column can have."""
    return value is None or isinstance(value, int | float)


def _wrapped(row: Mapping[str, Any]) -> str:
    """Name the column that holds what are probably the rows: a whole data set inside one object."""
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], Mapping)]
    return str(lists[0]) if len(lists) == 1 and _recognise(row[lists[0]][0]) else ""


def _is_by_column(row: Mapping[str, Any]) -> bool:
    """Tell a whole data set that is stored column by column in one object."""
    lengths = {len(value) if isinstance(value, list | Mapping) else -1 for value in row.values()}
    return len(row) > 1 and len(lengths) == 1 and min(lengths) > 1 and not _KNOWN_COLUMNS_OF_LISTS & row.keys()


def _nearest_column(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), _KNOWN_COLUMNS, n=1, cutoff=0.8)
    return close[0] if close else ""
