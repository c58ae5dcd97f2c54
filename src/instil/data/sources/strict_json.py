"""JSON as every other reader understands it: what would be changed silently, or break a later step, is refused.

Used for whole rows and for JSON text inside them. Questionable on purpose: depth is limited far below what the parser can
read, because rows are walked again and again afterwards (templates, hashes, copies), with less of the stack left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MAX_DEPTH = 200
"""Levels of nesting in one row."""


class RefusedJson(Exception):
    """JSON that parses, but would not survive; the text says what was found, what is expected and what to do."""


def parse_text(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        json.JSONDecodeError: If it is no JSON.
        RefusedJson: On a key that occurs twice, NaN, half a surrogate pair, or more than `MAX_DEPTH` levels.
        RecursionError: If it is nested even deeper than the parser can read.
        ValueError: On an integer of more digits than Python converts.

    Example:
        >>> parse_text('{"a": 1}')
        {'a': 1}
    """
    value = DECODER.decode(text)
    check(value, text)
    return value


def check(value: Any, text: str, start: int = 0, end: int | None = None) -> None:
    """Refuse a parsed value for what the decoder does not see; `text[start:end]` is what it was parsed from.

    Raises:
        RefusedJson: On half a surrogate pair, or more than `MAX_DEPTH` levels.
    """
    end = len(text) if end is None else end
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH and _is_deep(value):
        raise RefusedJson(f"nested too deeply; expected at most {MAX_DEPTH} levels; mend the row")
    if text.find("\\ud", start, end) < 0 and text.find("\\uD", start, end) < 0:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise RefusedJson("holds half a surrogate pair (\\ud…); expected whole characters; mend the row") from None


def _is_deep(value: Any) -> bool:
    level: Sequence[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RefusedJson(f"the key {twice!r} occurs twice in one object; expected unique keys; mend the row")
    return made


def _refuse_constant(name: str) -> Any:
    raise RefusedJson(f"found {name}, which JSON does not have; expected a number or null; mend the row")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (_INFINITY, -_INFINITY):
        raise RefusedJson(f"the number {digits[:40]} is too large to be held; expected one below 1e308; mend the row")
    return value


_INFINITY = float("inf")
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
