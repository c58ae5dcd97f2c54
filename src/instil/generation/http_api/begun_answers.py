"""Reads whether a chat request continues its last message, and checks that it can.

Two spellings are usual: vLLM's ``continue_final_message: true`` in the request, and ``prefix: true`` in the last
message (Mistral, DeepSeek). Both mean the same here.

Why: the answer holds only the continuation, as vLLM's and DeepSeek's do. With ``echo: true`` it holds the whole turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from instil.generation.http_api.bodies import flag, shown
from instil.generation.http_api.problems import Problem

PREFIX = "prefix"
"""Key of the last message that asks for its continuation."""


def continues_last_message(body: Mapping[str, Any]) -> bool:
    """Return whether a request's last message is a begun answer, which the model continues.

    Args:
        body: The request, whose messages have been checked.

    Raises:
        Problem: If the keys contradict each other, or the last message is not the assistant's.

    Example:
        >>> messages = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "It is", "prefix": True}]
        >>> continues_last_message({"messages": messages}), continues_last_message({"messages": messages[:1]})
        (True, False)
    """
    key, with_prompt = "continue_final_message", "add_generation_prompt"
    asked, prompted = flag(body, key), flag(body, with_prompt, default=True)
    has_prefix, last = _has_prefix(body["messages"]), len(body["messages"]) - 1
    if has_prefix and key in body and not asked:
        _refuse(f"messages[{last}].{PREFIX}", f"found true beside {key}: false. Expected one of them. Remove it.")
    continues = asked or has_prefix
    if continues and with_prompt in body and prompted:
        _refuse(with_prompt, "found true with an answer to continue. Expected false, or no such key. Remove it.")
    if not continues and not prompted:
        _refuse(with_prompt, f"found false. Expected true, unless {key} is true. Remove it.")
    if not continues and flag(body, "echo"):
        _refuse("echo", f"found true without an answer to continue. Expected {key}: true beside it. Remove it.")
    role = body["messages"][last]["role"]
    if continues and (role != "assistant" or last == 0):
        found = f"found {shown(role)}" if role != "assistant" else "found only the answer"
        _refuse(
            f"messages[{last}].role",
            f"{found} in the message to continue. Expected a question and a begun answer of the assistant. "
            f"Add it, or remove {key}.",
        )
    return continues


def _has_prefix(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the last message has ``prefix: true``. Raise if another message has it."""
    for number, message in enumerate(messages):
        value, place = message.get(PREFIX, False), f"messages[{number}].{PREFIX}"
        if not isinstance(value, bool):
            _refuse(place, f"found {shown(value)}. Expected true or false.")
        if value and number < len(messages) - 1:
            _refuse(place, "found true before the last message. Expected it in the last one only. Remove it.")
    return bool(messages[-1].get(PREFIX, False))


def _refuse(place: str, message: str) -> NoReturn:
    raise Problem(400, f"{place}: {message}", param=place)
