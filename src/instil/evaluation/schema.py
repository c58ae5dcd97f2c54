"""Reads the JSON schema that the json task checks answers against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from instil.errors import EvaluationError


def read_schema(path: Path) -> Any:
    """Return the JSON schema in a file.

    Raises:
        EvaluationError: If it cannot be read as JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: cannot be read as JSON ({error}). Expected a JSON schema. Check it.") from None
