"""The forms that an answer can be held to: JSON of a schema, or tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from instil.generation.constraints.schema_checks import check_schema

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
"""The schema of every JSON object, which OpenAI calls ``json_object``."""


@dataclass(frozen=True, kw_only=True)
class JsonForm:
    """The answer is JSON of a schema, behind the reasoning if the model reasons.

    Attributes:
        schema: The JSON schema, checked when the form is made.
        place: Where the schema stands; messages about it begin so.
    """

    schema: Any
    place: str = "schema"

    def __post_init__(self) -> None:
        check_schema(self.schema, self.place)


@dataclass(frozen=True, kw_only=True)
class CallForm:
    """The answer is one call, or several, in the template's own syntax.

    Attributes:
        tools: The tool definitions, of which at least one is called.
        name: The only tool that may be called; None for any of them.
        several: Whether there may be more than one call.
        place: Where the tools stand; messages about their schemas begin so.
    """

    tools: tuple[Mapping[str, Any], ...]
    name: str | None = None
    several: bool = True
    place: str = "tools"

    def __post_init__(self) -> None:
        for number, tool in enumerate(self.tools):
            if self.name in (None, definition_of(tool).get("name")):
                check_schema(parameters_of(tool), f"{self.place}[{number}].function.parameters")

    def callable_tools(self) -> tuple[Mapping[str, Any], ...]:
        """Return the definitions of the tools that may be called."""
        return tuple(tool for tool in self.tools if self.name in (None, definition_of(tool).get("name")))


def definition_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool's definition, bare or under ``function``."""
    definition: Mapping[str, Any] = tool.get("function", tool)
    return definition


def parameters_of(tool: Mapping[str, Any]) -> Any:
    """Return the schema of a tool's arguments. A tool without one takes none.

    Example:
        >>> parameters_of({"type": "function", "function": {"name": "now"}})["additionalProperties"]
        False
    """
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    parameters = definition_of(tool).get("parameters") or nothing
    # Arguments are an object, even where the schema leaves that out.
    return parameters if "type" in parameters or "$ref" in parameters else {**parameters, "type": "object"}
