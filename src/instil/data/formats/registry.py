"""The table of formats, in the order in which they are tried on a row, and the error for a row that fits none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation, Place
from instil.conversation.message_parts import kind_of
from instil.data.column_names import NO_NAMING, Naming, check_clashes, naming_of, standard_name
from instil.data.formats.alpaca import ALPACA
from instil.data.formats.messages import MESSAGES
from instil.data.formats.pattern import PATTERN
from instil.data.formats.preferences.comparisons import COMPARING, comparing_format, nothing_to_compare, other_format
from instil.data.formats.preferences.kto import KTO
from instil.data.formats.preferences.preference import PREFERENCE
from instil.data.formats.preferences.scored import SCORED
from instil.data.formats.prompt_completion import PROMPT_COMPLETION
from instil.data.formats.question_answer import PAIRS, QUESTION_ANSWER
from instil.data.formats.remedies import reworded
from instil.data.formats.row_format import ReadOptions, RowFormat
from instil.data.formats.sharegpt import SHAREGPT
from instil.data.formats.text import TEXT
from instil.data.side_columns import is_empty
from instil.errors import DataError, FormatError, RecipeError, nearest
from instil.recipe import Reading

FORMATS: tuple[RowFormat, ...] = (
    PREFERENCE,
    MESSAGES,
    SHAREGPT,
    ALPACA,
    PROMPT_COMPLETION,
    QUESTION_ANSWER,
    TEXT,
    SCORED,
    KTO,
    PATTERN,
)
_BY_NAME: Mapping[str, RowFormat] = {row_format.name: row_format for row_format in FORMATS}
WRITTEN = tuple(row_format.name for row_format in FORMATS if row_format not in (PATTERN, SCORED))
"""Names of the formats that can be written."""
_KNOWN_COLUMNS = ("messages", "conversations", "instruction", "input", "output", "prompt", "completion", "chosen",
                  "rejected", "text", "content", *sorted({name for pair in PAIRS for name in pair}))  # fmt: skip
_KNOWN_COLUMNS_OF_LISTS = frozenset({"messages", "conversations", "chosen", "rejected"})
MOST_NAMES, LONGEST_NAME = 12, 40
"""How many columns an error lists, and how many characters of each."""
_MOST_COLUMNS = 30
"""An object of more texts than this is no row."""
_ONE_OBJECT_PER_ROW = (
    "Write one object per row instead, for example with pandas: to_json(…, orient='records', lines=True)"
)
_FLAT = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class _Found:
    """The format of a row, the evidence for it, and which of the columns that it reads have other names."""

    format: RowFormat
    evidence: str
    naming: Naming


_known_shapes: dict[tuple[tuple[str, ...], tuple[Any, ...]], tuple[RowFormat, str] | None] = {}
"""Formats of rows, by the names of their columns and the kinds of their values.

Only these decide a row's format, except for the columns in `_BY_CONTENT`.
"""
_BY_CONTENT = frozenset({"messages", "conversations", "conversation"})
"""Columns whose text may be a list in JSON, or only text."""
_DECIDING = ("messages", "conversations", "conversation", "chosen", "rejected", "instruction", "prompt",
             *sorted({question for question, _ in PAIRS} - {"input"}), "text", "content", "code")  # fmt: skip
"""Columns that decide a format where they hold something."""
_TURN_KEYS = frozenset({"role", "from"})
_MEDIA = frozenset({"image", "images", "video", "videos", "audio", "audios"})


RENDERED_HINT = (
    "Text that a chat template has rendered is written by --to chatml-text (or another template's name), "
    "and read with auto or text."
)
_MESSAGES_HINT = "Rows of role and content are called messages here. "
_OTHER_NAMES = {
    "chatml": _MESSAGES_HINT + RENDERED_HINT,
    **dict.fromkeys(("openai", "chat", "conversational"), f"{_MESSAGES_HINT}Choose messages."),
    **dict.fromkeys(("jsonl", "json", "csv", "tsv"), "The file's name decides that. Choose the form of a row."),
}
"""What people call formats that have another name here, or none."""


def format_named(name: str) -> RowFormat:
    """Return the format of that name.

    Raises:
        RecipeError: If there is none. The message suggests the nearest name.
    """
    return _named(name, tuple(_BY_NAME), also=("auto",))


def target_named(name: str) -> RowFormat:
    """Return the format of that name, for writing.

    Raises:
        RecipeError: If there is none that can be written. The message suggests the nearest name.
    """
    return _named(name, WRITTEN)


def _named(name: object, allowed: Sequence[str], also: Sequence[str] = ()) -> RowFormat:
    expected = f"Expected {', '.join((*also, *allowed))}. Choose one."
    if not isinstance(name, str):
        raise RecipeError(f"format: found {name!r:.80}. {expected}")
    if name in _OTHER_NAMES or name.endswith("-text"):
        raise RecipeError(f"format: unknown {name!r}. {_OTHER_NAMES.get(name, RENDERED_HINT)}")
    if name not in allowed:
        found = f"{name!r} is read only" if name in (*also, *_BY_NAME) else f"unknown {name!r}{nearest(name, allowed)}"
        raise RecipeError(f"format: {found}. {expected}")
    return _BY_NAME[name]


def recognise(row: Any, reading: Reading = "sft") -> tuple[RowFormat, str] | None:
    """Return a row's format and the evidence for it, or None if no format fits.

    Args:
        row: The row.
        reading: What the rows are read for; pairs and judged answers have formats of their own.

    Example:
        >>> found = recognise({"question": "2+2?", "answer": "4"})
        >>> found[0].name, found[1]
        ('question_answer', 'columns question, answer')
    """
    if reading != "sft":
        naming = naming_of(row) if isinstance(row, Mapping) else NO_NAMING
        compared = comparing_format(row) or (comparing_format(naming.applied(row)) if naming else None)
        return None if compared is None else (compared, compared.recognise(naming.applied(row) if naming else row))
    found = _find(row)
    return None if found is None else (found.format, found.evidence)


def _find(row: Any) -> _Found | None:
    fits = _fits(row)
    naming = naming_of(row) if isinstance(row, Mapping) else NO_NAMING
    if not naming:
        return None if fits is None else _Found(*fits, NO_NAMING)
    # Why: a row that fits under its own names keeps its format, except for one that a column of text alone makes.
    if fits is None or fits[0] is TEXT:
        fits = _fits(naming.applied(row)) or fits
    if fits is None:
        return None
    row_format, evidence = fits
    read = _naming_for(row_format, row)
    return _Found(row_format, f"{evidence}: {read}" if read.own_names else evidence, read)


def _naming_for(row_format: RowFormat, row: Any) -> Naming:
    """Return the naming of the columns that a format reads; other columns keep their names."""
    naming = naming_of(row) if isinstance(row, Mapping) else NO_NAMING
    if not naming:
        return NO_NAMING
    # A row that fits under its own names keeps the columns that decided it.
    known = row if row_format.recognise(row) else naming.applied(row)
    return naming.only(frozenset(row_format.reads(known)))


def other_names(row: Any, row_format: RowFormat) -> list[str]:
    """Return which columns of a row a format reads under another name, for people.

    Example:
        >>> other_names({"问": "2+2?", "Answer": "4", "id": 1}, format_named("question_answer"))
        ["'问' read as question", "'Answer' read as answer"]
    """
    return _naming_for(row_format, row).words()


def _fits(row: Any) -> tuple[RowFormat, str] | None:
    """Return the format that fits a row under these names. Rows of one shape are looked at once."""
    filled = _filled(row) if isinstance(row, Mapping) else row
    if filled is not row:
        found = _fits(filled)
        return found if found is not None else _first_that_fits(row)
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
    """Return everything about a value that can decide its row's format; None if its content can decide too."""
    if type(value) is str:
        return str if not is_empty(value) else ""
    if type(value) is not list:
        return type(value) if type(value) in _FLAT else None
    if not value:
        return (list, 0)
    first = value[0]
    return (list, *first) if type(first) is dict else (list, type(first)) if type(first) in _FLAT else None


def _filled(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row without the empty columns that would decide its format; the row itself where there is none.

    Such columns come from joining tables: rows of one table have no value in the columns of another. An empty answer
    stays, because a question beside it says that it is one.
    """
    empty = {name for name in _DECIDING if name in row and is_empty(row[name])}
    if "chosen" in empty:
        # A prompt of messages is one side of a pair. Alone it is no conversation to train on.
        empty |= {name for name in row if name == "rejected" or (name == "prompt" and isinstance(row[name], list))}
    else:
        empty.discard("rejected")
    if "instruction" in empty and any(not is_empty(row.get(name)) for name in ("input", "context")):
        empty.discard("instruction")
    return {name: value for name, value in row.items() if name not in empty} if empty else row


def _recognise(row: Any) -> tuple[RowFormat, str] | None:
    """Return what `recognise` returns, without the memory of known shapes."""
    filled = _filled(row) if isinstance(row, Mapping) else row
    return _first_that_fits(filled) or (_first_that_fits(row) if filled is not row else None)


def _first_that_fits(row: Any) -> tuple[RowFormat, str] | None:
    for candidate in FORMATS:
        evidence = candidate.recognise(row) if isinstance(row, Mapping | list) else ""
        if evidence:
            return candidate, evidence
    return None


def read_row(row: Any, place: Place, *, format_name: str, options: ReadOptions) -> tuple[str, Sequence[Conversation]]:
    """Read a row in the named format, or with ``auto`` in the format that fits it.

    Returns:
        The name of the format that was used, and the conversations.

    Raises:
        FormatError: If no format fits, or the row holds images, video or audio.
        DataError: If something in the row cannot be read.
    """
    if options.remedies == "settings":
        return _read_row(row, place, format_name, options)
    try:
        return _read_row(row, place, format_name, options)
    except DataError as error:
        raise reworded(error, options.remedies, place) from None


def refuse_media(row: Any, place: Place) -> None:
    """Refuse a row with a column of images, video or audio.

    Raises:
        FormatError: If such a column holds something.
    """
    media = sorted(key for key in _MEDIA & row.keys() if row[key]) if isinstance(row, Mapping) else []
    if media:
        raise FormatError(
            f"{place}: column {media[0]!r} holds {media[0].rstrip('s')} data. Only text can be read. "
            "Remove such rows, or leave them out with data.on_bad_row: skip."
        )


def _read_row(row: Any, place: Place, format_name: str, options: ReadOptions) -> tuple[str, Sequence[Conversation]]:
    if not options.columns:
        refuse_media(row, place)
    if options.reading != "sft":
        return _read_compared(row, place, format_name, options)
    if format_name != "auto":
        return format_name, _read_named(row, place, format_named(format_name), options)
    if options.columns:
        return "pattern", PATTERN.read(row, place, options)
    found = _find(row)
    if found is None:
        raise FormatError(_unknown(row, place))
    named = found.naming.applied(row) if found.naming else row
    decisive = _decisive(named, found.format)
    return found.format.name, _read_under(found.naming, found.format, decisive, place=place, options=options)


def _read_under(
    naming: Naming, row_format: RowFormat, row: Any, *, place: Place, options: ReadOptions
) -> Sequence[Conversation]:
    """Read a row that has standard names already. Its errors name the columns as they are in the file."""
    check_clashes(naming, place)
    try:
        return row_format.read(row, place, options)
    except DataError as error:
        if not naming.own_names:
            raise
        raise type(error)(f"{error} Columns of the file: {naming}.") from None


def _read_compared(
    row: Any, place: Place, format_name: str, options: ReadOptions
) -> tuple[str, Sequence[Conversation]]:
    """Read a row for an objective that compares answers; the arguments are those of `read_row`."""
    if options.columns:
        raise RecipeError(
            "data.columns: maps columns to one conversation. The objective compares answers: expected rows with chosen "
            "and rejected. Rename the columns in the file."
        )
    if format_name != "auto":
        named = format_named(format_name)
        if named not in COMPARING:
            raise RecipeError(other_format(format_name))
        return format_name, _read_named(row, place, named, options)
    naming = naming_of(row) if isinstance(row, Mapping) else NO_NAMING
    found = comparing_format(row) or (comparing_format(naming.applied(row)) if naming else None)
    if found is None:
        raise FormatError(nothing_to_compare(row, place, options, recognise(row)))
    naming = _naming_for(found, row)
    return found.name, _read_under(naming, found, naming.applied(row) if naming else row, place=place, options=options)


def _decisive(row: Any, row_format: RowFormat) -> Any:
    """Return the row without its empty deciding columns, where the format would read another column because of them."""
    filled = _filled(row) if isinstance(row, Mapping) else row
    if filled is row:
        return row
    evidence = row_format.recognise(filled)
    return filled if evidence and evidence != row_format.recognise(row) else row


def _read_named(row: Any, place: Place, named: RowFormat, options: ReadOptions) -> Sequence[Conversation]:
    if named is PATTERN:
        return named.read(row, place, options)
    naming = _naming_for(named, row)
    standard = naming.applied(row) if naming else row
    if isinstance(row, Mapping | list) and named.recognise(standard):
        return _read_under(naming, named, standard, place=place, options=options)
    recognised = recognise(row)
    if recognised is not None:
        other, evidence = recognised
        raise FormatError(
            f"{place}: looks like {other.name} ({evidence}), not {named.name}. Expected {named.columns}. "
            "Set data.format: auto to recognise the format of each row."
        )
    # No format fits: the named one says best what is missing.
    return _read_under(naming, named, standard, place=place, options=options)


def _map_columns(row: Mapping[str, Any]) -> str:
    """Return how to map columns to roles, with the first two texts of a row as the example.

    Example:
        >>> _map_columns({"问题": "2+2?", "答案": "4"})[-66:]
        "such as --data.columns.user '{问题}' --data.columns.assistant '{答案}'"
    """
    texts = [str(key) for key, value in row.items() if isinstance(value, str) and not set("{}[]'") & set(str(key))]
    question, answer = (*texts, "title", "summary")[:2] if len(texts) > 1 else ("title", "summary")
    example = f"--data.columns.user '{{{question}}}' --data.columns.assistant '{{{answer}}}'"
    return f"map the columns to roles with data.columns, such as {example}"


def _unknown(row: Any, place: Place) -> str:
    if not isinstance(row, Mapping):
        return f"{place}: found {kind_of(row)}. Expected an object of a known format. Fix the row."
    odd = [f"{key!r} holds {kind_of(row[key])}" for key in row if key in _KNOWN_COLUMNS and _is_odd(row[key])]
    columns = (_listed(row) or "none") + (f" ({', '.join(odd)})" if odd else "")
    known = "; ".join(
        f"{row_format.name} ({row_format.columns})" for row_format in FORMATS if row_format is not PATTERN
    )
    remedy = _remedy(row, holds_odd_values=bool(odd))
    return f"{place}: found columns {columns}. Expected one of: {known}. {remedy}"


def _remedy(row: Mapping[str, Any], *, holds_odd_values: bool) -> str:
    """Return what to do about a row in no known format: the first of the usual causes that fits."""
    if not row:
        return "The row is empty, or all its columns are null. Remove it, or leave it out with data.on_bad_row: skip."
    if is_by_id(row):
        return "The rows are objects by id. Take them out, for example: jq -c '.[]'"
    if row.keys() >= {"columns", "data"} and isinstance(row["columns"], list):
        return f"The file holds the names of columns and lists of values, as pandas writes them. {_ONE_OBJECT_PER_ROW}"
    if _is_by_column(row):
        kind = "objects" if any(isinstance(value, Mapping) for value in row.values()) else "lists"
        return f"The columns are {kind} of equal length, one value per row. {_ONE_OBJECT_PER_ROW}"
    wrapped = _wrapped(row)
    if wrapped:
        return f"The rows are inside {wrapped[0]!r}. Take them out, for example: jq -c '{_jq(wrapped)}[]'"
    if _is_text_by_text(row):
        return (
            "The file is one object of texts. If its keys are questions and its values answers, write rows with: "
            "jq -c 'to_entries[] | {question: .key, answer: .value}'"
        )
    for key in map(str, row):
        if standard_name(key) is None and key not in _KNOWN_COLUMNS and (close := _nearest_column(key)):
            return f"Did you mean {close!r} instead of {key!r}? Rename it, or {_map_columns(row)}."
    if any(isinstance(row[key], bytes) for key in row if key in _KNOWN_COLUMNS):
        return "Write the column as text."
    if holds_odd_values:
        return "Fix or remove the row."
    words = _map_columns(row)
    return f"{words[0].upper()}{words[1:]}, or rename them in the file, for example to question and answer."


def _listed(names: Iterable[Any]) -> str:
    """Return a list of names that stays readable; a file that holds no rows at all may have thousands."""
    shown = [text if len(text := str(name)) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…" for name in names]
    more = [f"… and {len(shown) - MOST_NAMES} more"] if len(shown) > MOST_NAMES else []
    return ", ".join([*shown[:MOST_NAMES], *more])


def _is_odd(value: Any) -> bool:
    """Return whether a value is one that no known column can have."""
    return not isinstance(value, str | list | Mapping)


def is_by_id(row: Mapping[Any, Any]) -> bool:
    """Return whether one object is a complete data set, whose values are the rows.

    Example:
        >>> is_by_id({"q1": {"question": "2+2?", "answer": "4"}, "q2": {"question": "3+3?", "answer": "6"}})
        True
    """
    values = list(row.values())
    return bool(values) and all(isinstance(value, Mapping) for value in values) and recognise(values[0]) is not None


def _wrapped(row: Mapping[str, Any], depth: int = 0) -> tuple[str, ...]:
    """Return the path to the rows, where one object is a complete data set; empty where it is none."""
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], Mapping)]
    if len(lists) == 1 and recognise(row[lists[0]][0]):
        # A list of turns is a conversation, and no list of rows.
        return (str(lists[0]),) if _TURN_KEYS.isdisjoint(row[lists[0]][0]) else ()
    objects = [str(key) for key, value in row.items() if isinstance(value, Mapping)]
    if len(objects) != 1 or depth > 1:
        return ()
    inner = row[objects[0]]
    if is_by_id(inner):
        return (objects[0],)
    path = _wrapped(inner, depth + 1)
    return (objects[0], *path) if path else ()


def _jq(path: Sequence[str]) -> str:
    """Return a path in jq's words."""
    return "".join(f".{key}" if key.isidentifier() and key.isascii() else f'["{key}"]' for key in path)


def _is_by_column(row: Mapping[str, Any]) -> bool:
    """Return whether one object is a complete data set, stored column by column."""
    lengths = {len(value) if isinstance(value, list | Mapping) else -1 for value in row.values()}
    return len(row) > 1 and len(lengths) == 1 and min(lengths) > 1 and not _KNOWN_COLUMNS_OF_LISTS & row.keys()


def _is_text_by_text(row: Mapping[str, Any]) -> bool:
    """Return whether one object is a complete data set of two texts a row: no names of columns are that long."""
    return (
        all(isinstance(value, str) for value in row.values())
        and not any(key in _KNOWN_COLUMNS or standard_name(key) for key in row)
        and (len(row) > _MOST_COLUMNS or any(len(str(key)) > LONGEST_NAME for key in row))
    )


def _nearest_column(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), _KNOWN_COLUMNS, n=1, cutoff=0.8)
    return close[0] if close else ""
