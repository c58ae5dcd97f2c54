"""The json task: whether an answer is valid JSON, matches the schema and has the right fields."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from instil.errors import EvaluationError, MissingPackageError
from instil.evaluation.cases import Case, Scores
from instil.evaluation.matching import normalise

MOST_NESTED = 100
"""Deepest nesting that counts as JSON: a model that repeats ``[`` would exhaust Python's stack."""


def find_json(text: str) -> Any:
    r"""Read the JSON of an answer: its fenced block if it has exactly one, or the full text.

    Raises:
        ValueError: If that is not JSON, or is nested deeper than `MOST_NESTED`.

    Example:
        >>> find_json('```json\n{"a": 1}\n```')
        {'a': 1}
    """
    fenced = re.findall(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    try:
        value = json.loads(fenced[0] if len(fenced) == 1 else text.strip())
    except RecursionError:
        raise ValueError("nested too deep") from None
    level = [value]
    for _ in range(MOST_NESTED):
        level = [inner for outer in level for inner in _items(outer)]
        if not level:
            return value
    raise ValueError("nested too deep")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def fields_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a JSON value as (path, normalised value); the path does not contain positions in a list.

    Example:
        >>> sorted(fields_of({"a": "X ", "b": [1, 2]}))
        [('a', 'x'), ('b[]', '1'), ('b[]', '2')]
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from fields_of(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from fields_of(item, f"{path}[]")
    elif isinstance(value, str):
        yield path, normalise(value)
    else:
        yield path, json.dumps(value)


def field_f1(predicted: Any, expected: Any) -> float:
    """Return the F1 of the leaves: the harmonic mean of their precision and recall."""
    ours, theirs = Counter(fields_of(predicted)), Counter(fields_of(expected))
    both = sum((ours & theirs).values())
    total = sum(ours.values()) + sum(theirs.values())
    return 2 * both / total if total else 1.0


def make_judge(schema: Mapping[str, Any] | None) -> Callable[[Case], Scores | None]:
    """Return a judge; the column ``schema`` or ``json_schema`` of a row takes precedence over `schema`.

    Raises:
        EvaluationError: If `schema` is not a JSON schema.
        MissingPackageError: If there is a schema and jsonschema is not installed.
    """
    if schema is not None:
        _validator(schema)

    def judge(case: Case) -> Scores | None:
        row_schema = case.columns.get("schema", case.columns.get("json_schema"))
        case_schema = row_schema if isinstance(row_schema, Mapping) else schema
        expected = _json_or_none(case.reference)
        # The task needs a schema or a reference in JSON; with both there are all four scores.
        if case_schema is None and not isinstance(expected, dict | list):
            return None
        try:
            predicted = find_json(case.prediction)
        except ValueError:
            predicted = None
        # A bare number or string is JSON too, but no extraction.
        valid = isinstance(predicted, dict | list)
        scores = {"valid_json": float(valid)}
        if case_schema is not None:
            scores["matches_schema"] = float(valid and _validator(case_schema).is_valid(predicted))
        if isinstance(expected, dict | list):
            scores["field_f1"] = field_f1(predicted, expected) if valid else 0.0
            scores["all_fields"] = float(valid and scores["field_f1"] == 1.0)
        return scores

    return judge


def _json_or_none(text: str | None) -> Any:
    try:
        return None if text is None else find_json(text)
    except ValueError:
        return None


def _validator(schema: Mapping[str, Any]) -> Any:
    try:
        import jsonschema
    except ImportError:
        raise MissingPackageError("jsonschema", needed_for="the json task with a schema", extra="metrics") from None
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise EvaluationError(
            f"schema: the schema is invalid ({error.message}). Expected a JSON schema. "
            "Correct --schema, or the column of the row."
        ) from None
    return kind(schema)
