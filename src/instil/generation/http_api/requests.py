"""Reads request bodies: the prompt and the settings. Every key that is not understood is rejected by name.

Why: a request without ``temperature`` is answered greedily, not at OpenAI's 1.0, because the model was evaluated
greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation
from instil.data.messages import conversation_from_dict
from instil.errors import DataError, GenerationError, nearest
from instil.generation.http_api.problems import Problem
from instil.generation.settings import SamplingSettings

_COMMON = (
    "model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "n",
    "max_tokens", "user", "metadata", "store", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias",
)  # fmt: skip
CHAT_KEYS = (
    *_COMMON, "messages", "tools", "tool_choice", "parallel_tool_calls", "max_completion_tokens", "chat_template_kwargs",
    "response_format", "reasoning_effort",
)  # fmt: skip
COMPLETION_KEYS = (*_COMMON, "prompt", "best_of", "echo", "suffix")
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "auto", "none"),
}
"""Parameters that are accepted only with the values that change nothing; other values get status 400."""
MAX_ANSWERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A request that has been read.

    Attributes:
        settings: Sampling settings; `num_answers` is the request's ``n``.
        stream: Whether pieces are sent as they come.
        include_usage: Whether a last piece carries the token counts.
        conversation: The conversation of a chat request; None for a completion.
        prompts: The prompts of a completion request: texts or ids.
        with_tools: Whether calls are parsed out of the answer.
    """

    settings: SamplingSettings
    stream: bool
    include_usage: bool
    conversation: Conversation | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    with_tools: bool = False


def read_chat(body: Mapping[str, Any], *, most: int) -> ParsedRequest:
    """Read a body of ``/v1/chat/completions``; `most` is the longest answer allowed."""
    _check_keys(body, CHAT_KEYS)
    if "messages" not in body:
        raise Problem(400, "messages: missing. Expected a list of objects with role and content.", param="messages")
    # tool_choice "none" means: the template does not see the tools, and calls in the answer stay text.
    tools = body.get("tools") if body.get("tool_choice") != "none" else None
    variables = body.get("chat_template_kwargs") or {}
    if not isinstance(variables, Mapping):
        raise Problem(400, "chat_template_kwargs: found no object. Expected one.", param="chat_template_kwargs")
    if body.get("reasoning_effort") is not None:
        variables = {"reasoning_effort": body["reasoning_effort"], **variables}
    row = {"messages": body["messages"], "tools": tools or None, "template_variables": dict(variables)}
    try:
        conversation = conversation_from_dict({key: value for key, value in row.items() if value or key == "messages"})
    except DataError as error:
        raise Problem(400, str(error), param="messages") from None
    if any(not isinstance(message.content, str | None) for message in conversation.messages) and any(
        part.get("type") != "text" for message in conversation.messages for part in _parts(message.content)
    ):
        raise Problem(
            400,
            "messages: found a part that is not text. Expected text; images and audio are not served.",
            param="messages",
        )
    # OpenAI renamed max_tokens; clients of both ages are served.
    settings = _settings(body, body.get("max_completion_tokens", body.get("max_tokens")), most)
    return ParsedRequest(
        settings=settings,
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
        conversation=conversation,
        with_tools=bool(tools),
    )


def read_completion(body: Mapping[str, Any], *, most: int) -> ParsedRequest:
    """Read a body of ``/v1/completions``."""
    _check_keys(body, COMPLETION_KEYS)
    return ParsedRequest(
        settings=_settings(body, body.get("max_tokens", 16), most),
        stream=_flag(body, "stream"),
        include_usage=_include_usage(body),
        prompts=_prompts(body.get("prompt")),
    )


def _parts(content: Any) -> Sequence[Mapping[str, Any]]:
    return () if content is None or isinstance(content, str) else content


def _check_keys(body: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key, value in body.items():
        if key not in allowed:
            raise Problem(400, f"{key}: unknown parameter{nearest(key, allowed)}. Remove it.", param=key)
        if key in _NEUTRAL and value not in _NEUTRAL[key]:
            raise Problem(400, f"{key}: {value!r} is not supported by this server. Remove it.", param=key)


def _settings(body: Mapping[str, Any], max_tokens: Any, most: int) -> SamplingSettings:
    """Read the sampling settings; the limits of this server come first, then those of `SamplingSettings`."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops) or len(stops) > 16:
        raise Problem(
            400,
            "stop: found something else. Expected a string or at most 16 strings, none of them empty.",
            param="stop",
        )
    answers = _number(body, "n", int, 1)
    if not 1 <= answers <= MAX_ANSWERS:
        raise Problem(400, f"n: found {answers}. Allowed is 1 to {MAX_ANSWERS}.", param="n")
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int)):
        raise Problem(400, f"max_tokens: found {max_tokens!r}. Expected an integer.", param="max_tokens")
    if max_tokens is not None and max_tokens > most:
        raise Problem(400, f"max_tokens: found {max_tokens}. This server allows {most}.", param="max_tokens")
    temperature = _number(body, "temperature", float, 0.0)
    if temperature > 10:
        raise Problem(400, f"temperature: found {temperature}. Allowed is 0 to 10.", param="temperature")
    try:
        return SamplingSettings(
            temperature=temperature,
            top_p=_number(body, "top_p", float, 1.0),
            top_k=_number(body, "top_k", int, None),
            min_p=_number(body, "min_p", float, 0.0),
            repetition_penalty=_number(body, "repetition_penalty", float, 1.0),
            seed=_number(body, "seed", int, None),
            max_new_tokens=most if max_tokens is None else max_tokens,
            num_answers=answers,
            stop=tuple(stops),
        )
    except GenerationError as error:
        # The message starts with the setting's name.
        raise Problem(400, str(error), param=str(error).partition(":")[0]) from None


def _number(body: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Problem(400, f"{key}: found {value!r}. Expected a number.", param=key)
    if value != value or abs(value) > 2**63:
        raise Problem(400, f"{key}: found {value!r}. Expected a finite number below 2**63.", param=key)
    if kind is int and value != int(value):
        raise Problem(400, f"{key}: found {value!r}. Expected an integer.", param=key)
    return kind(value)


def _flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key)
    if value not in (None, True, False):
        raise Problem(400, f"{key}: found {value!r}. Expected true or false.", param=key)
    return bool(value)


def _include_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise Problem(400, "stream_options: found no object. Expected one.", param="stream_options")
    return bool(options.get("include_usage"))


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """Read OpenAI's four forms of a prompt: a text, several texts, token ids, several lists of token ids."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        # A flat list of numbers is one prompt, not several.
        if _are_ids(value):
            return (tuple(value),)
        if all(isinstance(item, list) and item and _are_ids(item) for item in value):
            return tuple(tuple(item) for item in value)
    raise Problem(
        400, "prompt: found something else. Expected a text, a list of token ids, or a list of either.", param="prompt"
    )


def _are_ids(values: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in values)
