"""Reads what a request prescribes of the answer: ``response_format``, ``tool_choice`` and ``logprobs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from instil.errors import GenerationError
from instil.generation.constraints.forms import ANY_OBJECT, CallForm, JsonForm, definition_of
from instil.generation.http_api.bodies import flag, shown
from instil.generation.http_api.problems import Problem
from instil.generation.logprobs import MAX_TOP

_FORMATS = ("text", "json_object", "json_schema")
_COMPLETION_TOP = 5
"""Most alternatives of ``/v1/completions``, as in OpenAI's API."""


def read_form(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> JsonForm | CallForm | None:
    """Return the form that a chat request prescribes; None for free text.

    Args:
        body: The request.
        tools: Its checked tools.

    Raises:
        Problem: If the form is malformed, contradicts other keys, or cannot be enforced.
    """
    try:
        form = _json_form(body)
        calls = _call_form(body, tools)
    except GenerationError as error:
        raise Problem(400, str(error), param=str(error).partition(": ")[0]) from None
    if form is not None and body.get("tools") and body.get("tool_choice") != "none":
        _refuse(
            "response_format",
            "found beside tools, which the answer may call instead. Expected one of them. Set tool_choice: none, or "
            "remove one.",
        )
    if (form or calls) and body.get("stop"):
        _refuse("stop", "found beside a form, which it could cut in the middle. Remove it.")
    return form or calls


def _json_form(body: Mapping[str, Any]) -> JsonForm | None:
    value = body.get("response_format")
    if value in (None, {}):
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in _FORMATS:
        _refuse("response_format", f"found {shown(value)}. Expected an object whose type is {' or '.join(_FORMATS)}.")
    allowed = ("type", "json_schema") if kind == "json_schema" else ("type",)
    for key in value:
        if key not in allowed:
            _refuse(f"response_format.{key}", f"unknown with type {kind}. Remove it.")
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonForm(schema=ANY_OBJECT, place="response_format")
    place, described = "response_format.json_schema", value.get("json_schema")
    if not isinstance(described, Mapping):
        _refuse(place, f"found {shown(described)}. Expected an object with name and schema.")
    for key in described:
        if key not in ("name", "schema", "strict", "description"):
            _refuse(f"{place}.{key}", "unknown. Expected name, schema, strict and description. Remove it.")
    if not isinstance(described.get("name"), str) or not described["name"]:
        _refuse(f"{place}.name", f"found {shown(described.get('name'))}. Expected a name.")
    if "schema" not in described:
        _refuse(f"{place}.schema", "missing. Expected a JSON schema.")
    if not isinstance(described.get("strict") or False, bool):
        _refuse(f"{place}.strict", f"found {shown(described['strict'])}. Expected true or false; both are enforced.")
    return JsonForm(schema=described["schema"], place=f"{place}.schema")


def _call_form(body: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> CallForm | None:
    choice, several = body.get("tool_choice"), flag(body, "parallel_tool_calls", default=True)
    if choice in (None, "auto", "none"):
        return None
    if not tools:
        _refuse("tool_choice", f"found {shown(choice)} without tools. Expected tools beside it. Add them.")
    if choice == "required":
        return CallForm(tools=tuple(tools), several=several)
    function = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        _refuse(
            "tool_choice",
            f'found {shown(choice)}. Expected none, auto, required or {{"type": "function", "function": {{"name": …}}}}.',
        )
    names = [definition_of(tool).get("name") for tool in tools]
    if function["name"] not in names:
        _refuse(
            "tool_choice.function.name",
            f"found {shown(function['name'])}. Expected one of {', '.join(map(str, names))}.",
        )
    return CallForm(tools=tuple(tools), name=function["name"], several=False)


def read_top_logprobs(body: Mapping[str, Any], *, chat: bool) -> int | None:
    """Return how many alternatives each token has; None if no log-probabilities are requested.

    Raises:
        Problem: If the number is out of range, or stands without ``logprobs``.
    """
    if not chat:
        if body.get("top_logprobs"):
            _refuse("top_logprobs", "found in a completion request. Expected logprobs with a number. Use logprobs.")
        value = body.get("logprobs")
        return None if value in (None, False) else _count("logprobs", value, _COMPLETION_TOP)
    asked = flag(body, "logprobs")
    if not asked and body.get("top_logprobs"):
        _refuse("top_logprobs", "found without logprobs: true. Expected both. Add logprobs: true.")
    return _count("top_logprobs", body.get("top_logprobs") or 0, MAX_TOP) if asked else None


def _count(key: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        _refuse(key, f"found {shown(value)}. Expected a whole number from 0 to {most}.")
    return int(value)


def _refuse(place: str, message: str) -> NoReturn:
    raise Problem(400, f"{place}: {message}", param=place)
