"""Checks a JSON schema before a grammar is made of it: what is not enforced is refused by name and place.

Why: the grammar library skips keywords it does not know, and it takes a schema that only an endless text would
satisfy. Neither may reach a model, because the answers would not validate, or never end.

Source: the JSON schema page of llguidance 1.9 for what it enforces; each keyword is tested here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote

from instil.errors import GenerationError, nearest

MAX_DEPTH = 32
MAX_SCHEMAS = 5_000
MAX_REFERENCES = 200
MAX_CHARACTERS = 200_000
MAX_COUNT = 10_000
"""Largest minLength, maxLength, minItems and maxItems: each one unrolls states of the grammar."""

_NOTES = frozenset(
    ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$schema", "$id")
)
_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_OF_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_OF_ONE = ("items", "additionalProperties")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
ENFORCED = (
    *_OF_NAMES, *_OF_LISTS, *_OF_ONE, *_COUNTS, "type", "enum", "const", "required", "minProperties", "maxProperties",
    "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "$ref",
)  # fmt: skip
"""Keywords that the grammar enforces."""
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def check_schema(schema: Any, place: str) -> None:
    """Check that a schema can be enforced, and that some finite JSON satisfies it.

    Args:
        schema: The schema, as JSON reads it.
        place: Where it stands; every message begins with it and the path inside the schema.

    Raises:
        GenerationError: If a keyword is unknown or not enforced, or the schema is too large or cannot be satisfied.

    Example:
        >>> check_schema({"type": "object", "properties": {"a": {"maxLenght": 3}}}, "schema")
        Traceback (most recent call last):
        instil.errors.GenerationError: schema.properties.a.maxLenght: unknown keyword (did you mean 'maxLength'?). Remove it.
    """
    if not isinstance(schema, Mapping | bool):
        _refuse(place, f"found {_shown(schema)}. Expected a JSON schema: an object.")
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        _refuse(place, f"it is no JSON ({type(error).__name__}). Expected a JSON schema of at most {MAX_DEPTH} levels.")
    if size > MAX_CHARACTERS:
        _refuse(place, f"found {size:,} characters. The limit is {MAX_CHARACTERS:,}. Use a smaller schema.")
    references: dict[str, Any] = {}
    for number, (part, where, depth) in enumerate(_parts(schema, place)):
        if number >= MAX_SCHEMAS:
            _refuse(place, f"found more than {MAX_SCHEMAS:,} schemas in it. Use a smaller one.")
        if depth > MAX_DEPTH:
            _refuse(where, f"it lies deeper than {MAX_DEPTH} levels. Use a flatter schema, or $ref.")
        _check_part(part, where, is_root=part is schema)
        if isinstance(part, Mapping) and "$ref" in part:
            references[part["$ref"]] = _target(schema, part["$ref"], f"{where}.$ref")
    if len(references) > MAX_REFERENCES:
        _refuse(place, f"found {len(references)} definitions in use. The limit is {MAX_REFERENCES}. Use fewer.")
    _check_ends(schema, references, place)


def _parts(schema: Any, place: str) -> Iterator[tuple[Any, str, int]]:
    """Yield every schema inside a schema with its place and depth, itself included."""
    open_parts = [(schema, place, 0)]
    while open_parts:
        part, where, depth = open_parts.pop()
        yield part, where, depth
        if not isinstance(part, Mapping):
            continue
        for key in _OF_NAMES:
            if isinstance(part.get(key), Mapping):
                open_parts += [(value, f"{where}.{key}.{name}", depth + 1) for name, value in part[key].items()]
        for key in _OF_LISTS:
            if isinstance(part.get(key), list):
                open_parts += [(value, f"{where}.{key}[{at}]", depth + 1) for at, value in enumerate(part[key])]
        open_parts += [(part[key], f"{where}.{key}", depth + 1) for key in _OF_ONE if key in part]


def _check_part(part: Any, where: str, *, is_root: bool) -> None:
    """Check the keywords of one schema; the schemas in it are checked by themselves."""
    if isinstance(part, bool):
        return
    if not isinstance(part, Mapping):
        _refuse(where, f"found {_shown(part)}. Expected a schema: an object, true or false.")
    for key, value in part.items():
        if key not in ENFORCED and key not in _NOTES:
            what = "cannot be enforced while an answer is generated" if key in _KNOWN else "unknown keyword"
            _refuse(f"{where}.{key}", f"{what}{nearest(key, ENFORCED) if key not in _KNOWN else ''}. Remove it.")
        if key in ("$schema", "$id") and not is_root:
            _refuse(f"{where}.{key}", "found inside the schema. Expected it at the top, if at all. Remove it.")
        expected = _expected(key, value)
        if expected:
            _refuse(f"{where}.{key}", f"found {_shown(value)}. Expected {expected}.")


def _expected(key: str, value: Any) -> str:
    """Return what a keyword's value has to be if it is something else; else an empty text."""
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    names = [value] if isinstance(value, str) else value if texts else [None]
    holds, expected = {
        **dict.fromkeys(_OF_NAMES, (isinstance(value, Mapping), "an object of schemas")),
        **dict.fromkeys(_OF_LISTS, (isinstance(value, list) and bool(value), "a list of schemas")),
        **dict.fromkeys(_COUNTS, (_is_count(value, MAX_COUNT), f"a whole number from 0 to {MAX_COUNT:,}")),
        "type": (bool(names) and all(name in _TYPES for name in names), f"one or several of {', '.join(_TYPES)}"),
        "enum": (isinstance(value, list) and bool(value), "a list that is not empty"),
        "required": (texts, "a list of names"),
        "minProperties": (_is_count(value, 1), "0 or 1, because a repeated name would count twice"),
        "maxProperties": (_is_count(value, MAX_COUNT), f"a whole number from 0 to {MAX_COUNT:,}"),
        "multipleOf": (_is_factor(value), f"a number above 0 with at most {MAX_COUNT:,} steps to its decimal places"),
        "pattern": (isinstance(value, str), "a regular expression"),
        "format": (value in FORMATS, f"one of {', '.join(FORMATS)}"),
        "$ref": (isinstance(value, str) and value.startswith("#"), "a reference inside the schema, such as #/$defs/name"),
    }.get(key, (True, ""))  # fmt: skip
    return "" if holds else expected


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_factor(value: Any) -> bool:
    """Return whether ``multipleOf`` needs few states: one for each step, 7 for 7 and for 0.07."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 or len(str(value)) > 30:
        return False
    _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    steps = int("".join(map(str, digits)))
    return isinstance(exponent, int) and exponent < 5 and steps * 10 ** max(exponent, 0) <= MAX_COUNT


def _target(schema: Any, reference: str, where: str) -> Any:
    """Return the schema that a reference points to."""
    target = schema
    for step in reference.removeprefix("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, Mapping) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        else:
            _refuse(where, f"{reference[:80]} does not exist in the schema. Correct the reference.")
    if reference.strip("#") and not reference.startswith("#/"):
        _refuse(where, f"found {reference[:80]}. Expected a path inside the schema, such as #/$defs/name.")
    if not isinstance(target, Mapping | bool):
        _refuse(where, f"{reference[:80]} is no schema. Correct the reference.")
    return target


def _check_ends(schema: Any, references: Mapping[str, Any], place: str) -> None:
    """Raise if every JSON of the schema would be endless, as that of a required property which holds its own parent.

    A definition can end if it does so by definitions that can. Start with none, and add them until nothing changes.
    """
    ending: set[str] = set()
    while new := {name for name, part in references.items() if name not in ending and _can_end(part, ending)}:
        ending |= new
    if not _can_end(schema, ending):
        _refuse(
            place, "only endless JSON satisfies it, because a definition requires itself. Make a property optional."
        )


def _can_end(part: Any, ending: set[str]) -> bool:
    if not isinstance(part, Mapping):
        return True
    if "enum" in part or "const" in part:
        return True
    if "$ref" in part and part["$ref"] not in ending:
        return False
    if not all(_can_end(item, ending) for item in part.get("allOf", ())):
        return False
    if any(key in part and not any(_can_end(item, ending) for item in part[key]) for key in ("anyOf", "oneOf")):
        return False
    kinds = part.get("type", _TYPES)
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    return not kinds <= {"object", "array"} or any(
        kind in kinds and ends(part, ending) for kind, ends in (("object", _object_can_end), ("array", _array_can_end))
    )


def _object_can_end(part: Mapping[str, Any], ending: set[str]) -> bool:
    properties, others = part.get("properties", {}), part.get("additionalProperties", True)
    return all(_can_end(properties.get(name, others), ending) for name in part.get("required", ()))


def _array_can_end(part: Mapping[str, Any], ending: set[str]) -> bool:
    first, least = part.get("prefixItems", [])[: part.get("minItems", 0)], part.get("minItems", 0)
    return all(_can_end(item, ending) for item in first) and (
        least <= len(first) or _can_end(part.get("items", True), ending)
    )


_KNOWN = frozenset(
    ("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames",
     "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties",
     "additionalItems", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary",
     "contentEncoding", "contentMediaType", "contentSchema", "id", "nullable")
)  # fmt: skip
"""Keywords of JSON Schema or OpenAPI that the grammar cannot enforce."""


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _refuse(place: str, message: str) -> NoReturn:
    raise GenerationError(f"{place}: {message}")
