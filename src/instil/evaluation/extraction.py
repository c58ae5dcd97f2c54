"""Judges extraction to JSON: whether it parses, fits the schema, and has the right fields."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from instil.errors import EvaluationError, MissingPackageError
from instil.evaluation.cases import Case, Scores
from instil.evaluation.matching import normalise


def find_json(text: str) -> Any:
    r"""Read the JSON that an answer is, or that its only fenced block is; `ValueError` where there is none.

    Example:
        >>> find_json('```json\n{"a": 1}\n```')
        {'a': 1}
    """
    fenced = re.findall(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    return json.loads(fenced[0] if len(fenced) == 1 else text.strip())


def fields_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of a JSON value as (path, normalised value); the order of a list does not count.

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


def field_f1(predicted: Any, wanted: Any) -> float:
    """Give the F1 of the fields: how many of the wanted leaves are there, and how many of those there are wanted."""
    ours, theirs = Counter(fields_of(predicted)), Counter(fields_of(wanted))
    both = sum((ours & theirs).values())
    total = sum(ours.values()) + sum(theirs.values())
    return 2 * both / total if total else 1.0


def make_judge(schema: Mapping[str, Any] | None) -> Callable[[Case], Scores | None]:
    """Give a judge; a row's own ``schema`` column wins over the schema given.

    Raises:
        EvaluationError: If the schema is none.
    """
    if schema is not None:
        _validator(schema)

    def judge(case: Case) -> Scores | None:
        own = case.columns.get("schema", case.columns.get("json_schema"))
        wanted_schema = own if isinstance(own, Mapping) else schema
        wanted = _json_or_none(case.reference)
        if wanted_schema is None and not isinstance(wanted, dict | list):
            return None
        try:
            predicted = find_json(case.prediction)
        except ValueError:
            predicted = None
        valid = isinstance(predicted, dict | list)
        scores = {"valid_json": float(valid)}
        if wanted_schema is not None:
            scores["matches_schema"] = float(valid and _validator(wanted_schema).is_valid(predicted))
        if isinstance(wanted, dict | list):
            scores["field_f1"] = field_f1(predicted, wanted) if valid else 0.0
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
        raise MissingPackageError("jsonschema", needed_for="json task with a schema", extra="metrics") from None
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise EvaluationError(f"schema: not a JSON schema ({error.message}); mend the schema") from None
    return kind(schema)
