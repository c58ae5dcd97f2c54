"""Reads the bytes of a request's body as JSON, where null is absence and every text is complete.

Why: typed clients send every key that they know, null where it is not set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from instil.conversation.strict_json import DECODER, MAX_DEPTH, RefusedJson
from instil.generation.http_api.problems import Problem

_SHOWN = 80
"""Characters of a found value that an error shows."""
_ROW_REMEDY = re.compile(r"\s*[A-Z][^.]*\brow\b[^.]*\.$")


def shown(value: Any) -> str:
    """Return a value as an error shows it: short, and on one line.

    Example:
        >>> shown("hot"), len(shown("x" * 1000))
        ("'hot'", 82)
    """
    text = repr(value) if not isinstance(value, str) else repr(value[:_SHOWN])
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"


def flag(body: Mapping[str, Any], key: str, *, default: bool = False) -> bool:
    """Return the value of a key that is true or false.

    Raises:
        Problem: If it is neither.
    """
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise Problem(400, f"{key}: found {shown(value)}. Expected true or false.", param=key)
    return value


def of_request(message: str) -> str:
    """Return an error about a row as one about a request.

    Example:
        >>> of_request("message 1 has keys x. Expected content. Fix the row.")
        'message 1 has keys x. Expected content. Fix the request.'
    """
    return _ROW_REMEDY.sub(" Fix the request.", message.removeprefix("conversation: "))


def read_body(body: bytes) -> dict[str, Any]:
    """Read a body.

    Raises:
        Problem: If it is not a JSON object in UTF-8, or a text in it is incomplete. The problem names the place.

    Example:
        >>> read_body(b'{"seed": null, "n": 1}')
        {'n': 1}
    """
    value = _parsed(body)
    if not isinstance(value, dict):
        raise Problem(400, f"the body is a JSON {_kind(value)}. Expected an object.")
    _check(value, "", 0)
    return {key: _without_nulls(key, item) for key, item in value.items() if item is not None}


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise Problem(400, "the body is empty. Expected a JSON object.")
    try:
        return DECODER.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 (byte {error.start}). Send JSON in UTF-8.") from None
    except RefusedJson as error:
        raise Problem(400, f"the body is not usable JSON: {of_request(str(error))}") from None
    except json.JSONDecodeError as error:
        raise Problem(
            400, f"the body is not JSON ({error.msg}, line {error.lineno}, column {error.colno}). Fix the request."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise Problem(400, "the body is not usable JSON: a number has too many digits. Fix the request.") from None


def _too_deep() -> Problem:
    return Problem(400, f"the body is nested too deeply. Expected at most {MAX_DEPTH} levels. Fix the request.")


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def _check(value: Any, place: str, depth: int) -> None:
    """Raise if a text holds half a surrogate pair, or the value is nested too deeply."""
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, f"{place}[{number}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, place or "a key")
            _check(item, f"{place}.{key}" if place else key, depth + 1)


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"\\u{ord(text[error.start]):04x}"
        raise Problem(
            400,
            f"{place}: found half a surrogate pair ({found}, character {error.start + 1}). Expected complete "
            "characters. Cut texts between characters, not between UTF-16 units.",
            param=place,
        ) from None


def _without_nulls(key: str, value: Any) -> Any:
    """Drop nulls of the API's own keys.

    Why: a null inside a tool's schema or inside the arguments of a call is data.
    """
    if key in ("messages", "tools") and isinstance(value, list):
        return [_kept(item, inside=("tool_calls", "function", "function_call", "content")) for item in value]
    return _kept(value, inside=()) if key != "logit_bias" else value


def _kept(value: Any, *, inside: tuple[str, ...]) -> Any:
    """Return a mapping without nulls, and the same for what it holds under the keys `inside`."""
    if isinstance(value, list):
        return [_kept(item, inside=inside) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _kept(item, inside=inside) if key in inside else item for key, item in value.items() if item is not None
    }
