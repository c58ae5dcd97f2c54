"""Checks the messages and tools of a chat request, and reads them into a conversation.

Why: the reader of training data accepts many shapes and its errors speak of rows. A request has one shape, and its
errors name the key of the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from instil.conversation import Conversation
from instil.conversation.field_checks import template_input_in
from instil.conversation.message_reading import ROLE_NAMES
from instil.data.messages import conversation_from_dict
from instil.errors import DataError, nearest
from instil.generation.http_api.begun_answers import PREFIX
from instil.generation.http_api.bodies import of_request, shown
from instil.generation.http_api.problems import Problem

_ROLES = "system, developer, user, assistant or tool"
_TEXT_KEYS = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking", "refusal")


def read_conversation(body: Mapping[str, Any]) -> Conversation:
    """Read a request's messages, tools and template variables.

    Raises:
        Problem: If one of them is missing or malformed; its `param` is the place in the request.
    """
    messages = _messages(body)
    # tool_choice "none" means: the template does not see the tools, and calls in the answer stay text.
    tools = _tools(body) if body.get("tool_choice") != "none" else []
    variables = body.get("chat_template_kwargs", {})
    if not isinstance(variables, Mapping):
        _refuse("chat_template_kwargs", f"found {shown(variables)}. Expected an object.")
    name = template_input_in(variables)
    if name is not None:
        _refuse(
            f"chat_template_kwargs.{name}",
            "found among the template's variables. Expected it as a key of the request itself, if at all. Move it.",
        )
    if "reasoning_effort" in body:
        variables = {"reasoning_effort": body["reasoning_effort"], **variables}
    messages = [{key: value for key, value in message.items() if key != PREFIX} for message in messages]
    row = {"messages": messages, "tools": tools, "template_variables": dict(variables)}
    try:
        return conversation_from_dict({key: value for key, value in row.items() if value})
    except DataError as error:
        raise Problem(400, of_request(str(error)), param="messages") from None


def _messages(body: Mapping[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if messages is None:
        _refuse("messages", "missing. Expected a list of objects with role and content.")
    if not isinstance(messages, list):
        _refuse("messages", f"found {shown(messages)}. Expected a list of objects with role and content.")
    if not messages:
        _refuse("messages", "found an empty list. Expected at least one message.")
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]")
    return messages


def _check_message(message: Any, place: str) -> None:
    if not isinstance(message, Mapping):
        _refuse(place, f"found {shown(message)}. Expected an object with role and content.")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLE_NAMES:
        found = "missing" if role is None else f"found {shown(role)}"
        hint = nearest(role[:40], ROLE_NAMES) if isinstance(role, str) else ""
        _refuse(f"{place}.role", f"{found}{hint}. Expected {_ROLES}.")
    content, calls = message.get("content"), message.get("tool_calls") or message.get("function_call")
    if isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(part, f"{place}.content[{number}]")
    elif content is not None and not isinstance(content, str):
        _refuse(f"{place}.content", f"found {shown(content)}. Expected a text or a list of text parts.")
    for key in _TEXT_KEYS:
        if key in message and not isinstance(message[key], str):
            _refuse(f"{place}.{key}", f"found {shown(message[key])}. Expected a text.")
    if calls is not None:
        _check_calls(calls, place, key="tool_calls" if message.get("tool_calls") else "function_call")
    if content is None and not calls and not any(message.get(key) for key in _TEXT_KEYS[2:5]):
        _refuse(f"{place}.content", "missing. Expected a text; an assistant message may have tool_calls instead.")


def _check_part(part: Any, place: str) -> None:
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    if isinstance(part, str):
        return
    if kind is None:
        _refuse(place, f"found {shown(part)}. Expected an object with type and text.")
    if kind not in ("text", "input_text", "output_text"):
        _refuse(
            f"{place}.type",
            f"found {shown(kind)}. Expected text; images, audio and files are not served by this server.",
        )
    if not isinstance(part.get("text"), str):
        found = f"found {shown(part['text'])}" if "text" in part else "missing"
        _refuse(f"{place}.text", f"{found}. Expected a text.")


def _check_calls(calls: Any, place: str, *, key: str) -> None:
    if key == "function_call":
        calls = [calls]
    if not isinstance(calls, list):
        _refuse(f"{place}.tool_calls", f"found {shown(calls)}. Expected a list of calls.")
    for number, call in enumerate(calls):
        where = f"{place}.tool_calls[{number}]" if key == "tool_calls" else f"{place}.{key}"
        if not isinstance(call, Mapping):
            _refuse(where, f"found {shown(call)}. Expected an object with function.")
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            _refuse(f"{where}.function", f"found {shown(function)}. Expected an object with name and arguments.")
        if not isinstance(function.get("arguments", ""), str | Mapping):
            _refuse(f"{where}.function.arguments", f"found {shown(function['arguments'])}. Expected JSON as a text.")


def _tools(body: Mapping[str, Any]) -> Sequence[Any]:
    tools = body.get("tools", [])
    if not isinstance(tools, list):
        _refuse("tools", f"found {shown(tools)}. Expected a list of tool definitions.")
    for number, tool in enumerate(tools):
        place = f"tools[{number}]"
        if not isinstance(tool, Mapping):
            _refuse(place, f"found {shown(tool)}. Expected an object with type and function.")
        if tool.get("type", "function") != "function":
            _refuse(f"{place}.type", f"found {shown(tool['type'])}. Expected 'function'.")
        function = tool.get("function", tool)
        if not isinstance(function, Mapping):
            _refuse(f"{place}.function", f"found {shown(function)}. Expected an object with name and parameters.")
        name = function.get("name")
        if not isinstance(name, str) or not name:
            found = "missing" if name is None else f"found {shown(name)}"
            _refuse(f"{place}.function.name", f"{found}. Expected a name.")
        if not isinstance(function.get("parameters", {}), Mapping):
            _refuse(f"{place}.function.parameters", f"found {shown(function['parameters'])}. Expected a JSON schema.")
    return tools


def _refuse(place: str, message: str) -> NoReturn:
    raise Problem(400, f"{place}: {message}", param=place)
