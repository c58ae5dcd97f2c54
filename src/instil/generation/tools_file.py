"""Reads the file of tool definitions that `instil chat --tools` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.conversation.message_parts import read_tools
from instil.errors import GenerationError


def read_tools_file(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Read tool definitions for the template.

    Raises:
        GenerationError: If the file is missing or is not JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GenerationError(
            f"{path}: cannot be read as JSON ({error}). Expected a list of tools. Check it."
        ) from None
    return read_tools(value, where=str(path))
