"""From a chat to what is sent and saved: messages of one side, a request's body, a training row, a preference pair."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from instil.studio.chat.records import Chat, Exchange, Reply
from instil.studio.problems import PageProblem

Message = dict[str, Any]
DEFAULT_TOKENS = 1024
"""Longest answer where the settings name none."""


def prompt_of(chat: Chat, side: int, number: int) -> list[Message]:
    """Return the messages that a model answered or will answer in an exchange.

    A chosen answer is the history of both sides, so that the next answers can be compared again.

    Args:
        chat: The chat.
        side: The model's place in it.
        number: The exchange.
    """
    messages: list[Message] = []
    if chat.settings.system.strip():
        messages.append({"role": "system", "content": chat.settings.system})
    before: Reply | None = None
    for at, exchange in enumerate(chat.exchanges[: number + 1]):
        messages += _asked(exchange, side, before)
        if at < number:
            owner = side if exchange.better is None else exchange.better
            before = exchange.replies[owner]
            messages.append(message_of(before))
    return messages


def message_of(reply: Reply) -> Message:
    """Return an answer as a message."""
    message: Message = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [dict(call) for call in reply.calls]
    return message


def _asked(exchange: Exchange, side: int, before: Reply | None) -> list[Message]:
    if not exchange.results:
        return [{"role": "user", "content": exchange.question}]
    calls = () if before is None else before.calls
    return [
        {"role": "tool", "tool_call_id": call.get("id", ""), "content": result}
        for call, result in zip(calls, exchange.results[side], strict=False)
    ]


def request_body(chat: Chat, side: int, number: int, *, model: str, seed: int) -> dict[str, Any]:
    """Return the body of a request for an answer, which comes as a stream."""
    drawn = {name: value for name, value in asdict(chat.settings.sampling).items() if value is not None}
    return {
        **tokens_body(chat, side, number, model=model),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "max_tokens": DEFAULT_TOKENS,
        **drawn,
        "seed": seed,
    }


def tokens_body(chat: Chat, side: int, number: int, *, model: str) -> dict[str, Any]:
    """Return the part of a request that makes the prompt."""
    body: dict[str, Any] = {"model": model, "messages": prompt_of(chat, side, number)}
    if chat.settings.tools:
        body["tools"] = [dict(tool) for tool in chat.settings.tools]
    if chat.settings.variables:
        body["chat_template_kwargs"] = dict(chat.settings.variables)
    return body


def training_row(chat: Chat, side: int, number: int) -> dict[str, Any]:
    """Return a conversation up to an answer as a row to train on.

    Raises:
        PageProblem: If the answer is empty, failed, or still being written.
    """
    reply = _usable(chat, side, number)
    return {"messages": [*prompt_of(chat, side, number), message_of(reply)]} | _columns(chat)


def preference_pair(chat: Chat, number: int, better: int) -> dict[str, Any]:
    """Return an exchange with two answers as a pair: the prompt, the better answer, the other one.

    Raises:
        PageProblem: If an answer is missing, both are equal, or the models were asked different prompts.
    """
    chosen, rejected = _usable(chat, better, number), _usable(chat, 1 - better, number)
    prompt = prompt_of(chat, better, number)
    if prompt != prompt_of(chat, 1 - better, number):
        raise PageProblem(422, "chat.other_prompts")
    if message_of(chosen) == message_of(rejected):
        raise PageProblem(422, "chat.equal_answers")
    return {"prompt": prompt, "chosen": [message_of(chosen)], "rejected": [message_of(rejected)]} | _columns(chat)


def _usable(chat: Chat, side: int, number: int) -> Reply:
    reply = chat.exchanges[number].replies[side]
    if not reply.is_answer or reply.state not in ("done", "cut", "stopped", "lost"):
        raise PageProblem(422, "chat.no_answer")
    return reply


def _columns(chat: Chat) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if chat.settings.tools:
        columns["tools"] = [dict(tool) for tool in chat.settings.tools]
    if chat.settings.variables:
        columns["template_variables"] = dict(chat.settings.variables)
    return columns
