"""Reads the form of an answer from a file with a JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

from instil.errors import GenerationError
from instil.generation.constraints.forms import ANY_OBJECT, JsonForm


def read_form(path: Path | None, *, any_object: bool = False) -> JsonForm | None:
    """Return the form of a schema file, of any JSON object, or None.

    Raises:
        GenerationError: If the file cannot be read, is no JSON, or holds a schema that cannot be enforced.
    """
    if path is None:
        return JsonForm(schema=ANY_OBJECT, place="json_object") if any_object else None
    if any_object:
        raise GenerationError("--json-object: found beside --schema. Expected one of them. Remove one.")
    try:
        text = path.read_text(encoding="utf-8")
        schema = json.loads(text)
    except OSError as error:
        raise GenerationError(f"{path}: {error.strerror or error}. Expected a JSON file with a schema.") from None
    except (ValueError, RecursionError) as error:
        raise GenerationError(f"{path}: it is no JSON ({error}). Expected a JSON schema. Correct the file.") from None
    return JsonForm(schema=schema, place=str(path))
