"""The values of a row as JSON. What only tables and programs hold becomes text or a list, or is refused by its column.

Rows are written as JSON by `write`, by `inspect --fix` and where a Python program passes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from instil.conversation import Message
from instil.conversation.message_parts import kind_of
from instil.data.messages import message_to_dict
from instil.errors import FormatError, first_line_of

_MOST_LEVELS = 200
_EXPECTED = "Expected text, numbers, lists or objects"


def as_json(value: Any) -> Any:
    """Return a JSON value for what JSON has no word for: dates, times and decimals as text, arrays, mappings.

    Example:
        >>> as_json(Decimal("12.30"))
        '12.30'

    Raises:
        FormatError: If there is no JSON for it.
    """
    if isinstance(value, Message):
        return message_to_dict(value)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value)
    raise FormatError(f"{kind_of(value)} cannot be written as JSON. {_EXPECTED}. Convert it first.")


def json_of(row: Mapping[str, Any], *, place: object) -> str:
    """Return a row as one line of JSON.

    Raises:
        FormatError: If JSON cannot hold a value. It names the place, the column, and where the value is in it.

    Example:
        >>> json_of({"question": "2+2?", "page": {"image": b"png"}}, place="rows.parquet:1")
        Traceback (most recent call last):
        ...
        instil.errors.FormatError: rows.parquet:1: column 'page' holds bytes (page.image), which JSON cannot hold. \
Expected text, numbers, lists or objects. Drop or convert that column.
    """
    for column in row:
        if not isinstance(column, str):
            raise FormatError(f"{place}: found the column {column!r}. Expected text as its name. Rename the column.")
    try:
        return _dumped(row)
    except Exception:  # an object's own conversion may raise anything
        raise FormatError(_refusal(row, place)) from None


def json_list_of(values: list[Any], *, place: object) -> str:
    """Return a list, such as the messages of a conversation, as one line of JSON.

    Raises:
        FormatError: If JSON cannot hold a value. It names the place and where the value is.
    """
    try:
        return _dumped(values)
    except Exception:  # an object's own conversion may raise anything
        path, found = _fault(values, "") or ("", "a value")
        raise FormatError(
            f"{place}: holds {found} ({path}), which JSON cannot hold. {_EXPECTED}. Drop or convert it."
        ) from None


def _dumped(value: Any) -> str:
    line = json.dumps(value, ensure_ascii=False, allow_nan=False, default=as_json)
    line.encode()  # half a surrogate pair is found only here
    return line


def _refusal(row: Mapping[str, Any], place: object) -> str:
    for column, value in row.items():
        fault = _fault(value, column)
        if fault is not None:
            path, found = fault
            inside = "" if path == column else f" ({path})"
            return (
                f"{place}: column {column!r} holds {found}{inside}, which JSON cannot hold. {_EXPECTED}. "
                "Drop or convert that column."
            )
    return f"{place}: a column has a name with half a surrogate pair. Expected complete characters. Rename it."


def _fault(value: Any, path: str, depth: int = 0) -> tuple[str, str] | None:
    """Return where in a value JSON cannot hold it and what stands there; None if JSON can."""
    value = message_to_dict(value) if isinstance(value, Message) else value
    if depth > _MOST_LEVELS:
        return path.partition(".")[0].partition("[")[0], "values nested too deeply, or in themselves"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int | float | None):
                return path, f"a key of type {type(key).__name__}"
            found = _fault(item, f"{path}.{key}", depth + 1)
            if found is not None:
                return found
        return _fault_of_text("".join(map(str, value)), path)
    if isinstance(value, list | tuple):
        return next((found for n, item in enumerate(value) if (found := _fault(item, f"{path}[{n}]", depth + 1))), None)
    if isinstance(value, str):
        return _fault_of_text(value, path)
    if isinstance(value, float) and not math.isfinite(value):
        return path, "NaN" if math.isnan(value) else "an infinite number"
    try:
        _dumped(value)
    except FormatError:
        return path, kind_of(value)
    except Exception as error:  # an object's own conversion may raise anything
        return path, f"a value of type {type(value).__name__} ({first_line_of(error)})"
    return None


def _fault_of_text(text: str, path: str) -> tuple[str, str] | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return path, "half a surrogate pair"
    return None
