"""Reads request bodies: the prompt and the settings. Every key that is not understood is rejected by name.

Why: a request without ``temperature`` is answered greedily, not at OpenAI's 1.0, because the model was evaluated
greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instil.conversation import Conversation
from instil.errors import GenerationError, nearest
from instil.generation.constraints.forms import CallForm, JsonForm
from instil.generation.http_api.answer_forms import read_form, read_top_logprobs
from instil.generation.http_api.begun_answers import continues_last_message
from instil.generation.http_api.bodies import flag, shown
from instil.generation.http_api.chat_messages import read_conversation
from instil.generation.http_api.problems import Problem
from instil.generation.parsing.complete import tool_names
from instil.generation.settings import SamplingSettings

_COMMON = (
    "model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "n",
    "max_tokens", "user", "metadata", "store", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias",
    "return_token_ids",
)  # fmt: skip
CHAT_KEYS = (
    *_COMMON, "messages", "tools", "tool_choice", "parallel_tool_calls", "max_completion_tokens", "chat_template_kwargs",
    "response_format", "reasoning_effort", "functions", "service_tier", "modalities",
    "continue_final_message", "add_generation_prompt", "echo",
)  # fmt: skip
COMPLETION_KEYS = (*_COMMON, "prompt", "best_of", "echo", "suffix")
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "best_of": (1,),
    "suffix": ("",),
    "stream_options": ({}, {"include_usage": True}, {"include_usage": False}),
    "functions": ([],),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
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
        tools: Names of the tools whose calls are parsed out of the answer.
        continues: Whether the last message is a begun answer, which the model continues.
        echo: Whether the answer to a begun message holds the message too.
        form: The form that the answer has to have; None for free text.
        top_logprobs: Alternatives for each token beside its log-probability; None if none are requested.
        one_call: Whether the answer ends at its first tool call.
        return_token_ids: Whether the answer holds the ids of its tokens.
    """

    settings: SamplingSettings
    stream: bool
    include_usage: bool
    conversation: Conversation | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    tools: frozenset[str] = frozenset()
    continues: bool = False
    echo: bool = False
    form: JsonForm | CallForm | None = None
    top_logprobs: int | None = None
    one_call: bool = False
    return_token_ids: bool = False


def read_chat(body: Mapping[str, Any], *, most: int) -> ParsedRequest:
    """Read a body of ``/v1/chat/completions``; `most` is the longest answer allowed."""
    check_keys(body, CHAT_KEYS)
    conversation = read_conversation(body)
    # OpenAI renamed max_tokens; clients of both ages are served.
    length_key = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    form = read_form(body, conversation.tools)
    return ParsedRequest(
        settings=_settings(body, most, length_key=length_key, length=most),
        stream=flag(body, "stream"),
        include_usage=_include_usage(body),
        conversation=conversation,
        tools=frozenset() if isinstance(form, JsonForm) else tool_names(conversation.tools),
        continues=continues_last_message(body),
        echo=flag(body, "echo"),
        form=form,
        top_logprobs=read_top_logprobs(body, chat=True),
        one_call=not flag(body, "parallel_tool_calls", default=True),
        return_token_ids=flag(body, "return_token_ids"),
    )


def read_completion(body: Mapping[str, Any], *, most: int) -> ParsedRequest:
    """Read a body of ``/v1/completions``."""
    check_keys(body, COMPLETION_KEYS)
    if flag(body, "echo"):
        raise Problem(400, "echo: True is not supported by this server. Remove it.", param="echo")
    return ParsedRequest(
        settings=_settings(body, most, length_key="max_tokens", length=16),
        stream=flag(body, "stream"),
        include_usage=_include_usage(body),
        prompts=_prompts(body.get("prompt")),
        top_logprobs=read_top_logprobs(body, chat=False),
        return_token_ids=flag(body, "return_token_ids"),
    )


def check_keys(body: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raise a `Problem` for a key that is not allowed, or whose value this server does not support."""
    for key, value in body.items():
        if key not in allowed:
            name = key if len(key) <= 80 else f"{key[:80]}…"
            raise Problem(400, f"{name}: unknown parameter{nearest(name, allowed)}. Remove it.", param=name)
        if key in _NEUTRAL and value not in _NEUTRAL[key]:
            raise Problem(400, f"{key}: {shown(value)} is not supported by this server. Remove it.", param=key)


def _settings(body: Mapping[str, Any], most: int, *, length_key: str, length: int) -> SamplingSettings:
    """Read the sampling settings; the limits of this server come first, then those of `SamplingSettings`.

    Args:
        body: The request.
        most: The longest answer allowed.
        length_key: The key that holds the length.
        length: The length if the request sets none.
    """
    answers = _number(body, "n", int, 1)
    if not 1 <= answers <= MAX_ANSWERS:
        raise Problem(400, f"n: found {answers}. Allowed is 1 to {MAX_ANSWERS}.", param="n")
    max_tokens = _number(body, length_key, int, min(length, most))
    if not 1 <= max_tokens <= most:
        allowed = (
            f"Expected 1 to {most}; this server allows {most}." if max_tokens < 1 else f"This server allows {most}."
        )
        raise Problem(400, f"{length_key}: found {max_tokens}. {allowed}", param=length_key)
    temperature = _number(body, "temperature", float, 0.0)
    if not 0 <= temperature <= 10:
        raise Problem(400, f"temperature: found {temperature}. Allowed is 0 to 10.", param="temperature")
    try:
        return SamplingSettings(
            temperature=temperature,
            top_p=_number(body, "top_p", float, 1.0),
            top_k=_number(body, "top_k", int, None),
            min_p=_number(body, "min_p", float, 0.0),
            repetition_penalty=_number(body, "repetition_penalty", float, 1.0),
            presence_penalty=_number(body, "presence_penalty", float, 0.0),
            frequency_penalty=_number(body, "frequency_penalty", float, 0.0),
            seed=_number(body, "seed", int, None),
            max_new_tokens=max_tokens,
            num_answers=answers,
            stop=_stops(body),
        )
    except GenerationError as error:
        # The message starts with the setting's name.
        message = str(error).removesuffix(" Change the sampling setting.")
        raise Problem(400, message, param=message.partition(":")[0]) from None


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops) or len(stops) > 16:
        raise Problem(
            400,
            f"stop: found {shown(stop)}. Expected a string or at most 16 strings, none of them empty.",
            param="stop",
        )
    return tuple(stops)


def _number(body: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Problem(400, f"{key}: found {shown(value)}. Expected a number.", param=key)
    if value != value or abs(value) > 2**63:
        raise Problem(400, f"{key}: found {shown(value)}. Expected a finite number below 2**63.", param=key)
    if kind is int and value != int(value):
        raise Problem(400, f"{key}: found {value!r}. Expected an integer.", param=key)
    return kind(value)


def _include_usage(body: Mapping[str, Any]) -> bool:
    return bool(body.get("stream_options", {}).get("include_usage"))


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
        400,
        f"prompt: {'missing' if value is None else f'found {shown(value)}'}. Expected a text, a list of token ids, or a "
        "list of either.",
        param="prompt",
    )


def _are_ids(values: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in values)
