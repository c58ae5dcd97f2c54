"""Strict JSON: refuse values that readers understand differently, or that break a later step.

Used for complete rows and for JSON text inside them.

Why: the depth limit is far below what the parser can read. Later steps (templates, hashes, copies) walk the rows
recursively with less of the stack left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MAX_DEPTH = 200
"""Most levels of nesting in one row."""


class RefusedJson(Exception):
    """JSON that parses, but that a later step would change or fail on. The message lacks only the place."""


def parse_text(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        json.JSONDecodeError: If it is not JSON.
        RefusedJson: On a duplicate key, NaN, half a surrogate pair, or more than `MAX_DEPTH` levels.
        RecursionError: If it is nested deeper than the parser can read.
        ValueError: On an integer of more digits than Python converts.

    Example:
        >>> parse_text('{"a": 1}')
        {'a': 1}
    """
    value = DECODER.decode(text)
    check(value, text)
    return value


def check(value: Any, text: str, start: int = 0, end: int | None = None) -> None:
    """Check a parsed value for what the decoder does not check. `text[start:end]` is its JSON.

    Raises:
        RefusedJson: On half a surrogate pair, or more than `MAX_DEPTH` levels.
    """
    end = len(text) if end is None else end
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH and _is_deep(value):
        raise RefusedJson(f"nested too deeply. Expected at most {MAX_DEPTH} levels. Fix the row.")
    # Only an escape can make a surrogate; encoding the value then tells a pair from a half.
    if text.find("\\ud", start, end) < 0 and text.find("\\uD", start, end) < 0:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise RefusedJson("holds half a surrogate pair (\\ud…). Expected complete characters. Fix the row.") from None


def _is_deep(value: Any) -> bool:
    level: Sequence[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RefusedJson(f"the key {twice!r} occurs twice in one object. Expected unique keys. Fix the row.")
    return items


def _refuse_constant(name: str) -> Any:
    raise RefusedJson(f"found {name}, which is not JSON. Expected a number or null. Fix the row.")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (_INFINITY, -_INFINITY):
        raise RefusedJson(f"the number {digits[:40]} is too large for a float. Expected one below 1e308. Fix the row.")
    return value


_INFINITY = float("inf")
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
