"""Turns generated tokens into answers in OpenAI's form, complete or streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from instil.conversation import Message, ToolCall
from instil.generation.engine import Engine
from instil.generation.folding import Folding
from instil.generation.http_api.worker import Worker
from instil.generation.parsing import opens_reasoning, parse_answer, parse_reasoning
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import TextStream


@dataclass(slots=True, kw_only=True)
class Writing:
    """One answer of a request while it is generated.

    Attributes:
        number: Its number among the request's choices.
        prompt: Ids of its prompt.
        settings: Its sampling settings.
        tokens: Tokens generated so far, the stop token included.
        text: Text so far.
        finish_reason: ``stop``, ``length`` or None.
    """

    number: int
    prompt: Sequence[int]
    settings: SamplingSettings
    tokens: int = 0
    text: str = ""
    finish_reason: str | None = None
    pieces: list[str] = field(default_factory=list)


async def write(engine: Engine, worker: Worker, writing: Writing) -> AsyncIterator[str]:
    """Generate one answer and yield its text as it becomes certain; `writing` holds the state and the end."""
    stops = frozenset(engine.stop_ids)
    stream = TextStream(engine.decode, stop=writing.settings.stop)
    room = worker.room(writing.prompt)
    settings = replace(writing.settings, max_new_tokens=min(writing.settings.max_new_tokens, room), num_answers=1)
    async with aclosing(worker.generate(writing.prompt, settings)) as tokens:  # type: ignore[type-var]
        async for token in tokens:
            writing.tokens += 1
            if token in stops:
                writing.finish_reason = "stop"
                break
            piece = stream.push(token)
            if piece:
                yield piece
            if stream.stopped:
                writing.finish_reason = "stop"
                break
    rest = stream.finish()
    if rest:
        yield rest
    writing.text = stream.text
    writing.finish_reason = writing.finish_reason or ("stop" if stream.stopped else "length")


async def chat_deltas(
    engine: Engine, worker: Worker, writing: Writing, *, with_tools: bool
) -> AsyncIterator[dict[str, Any]]:
    """Yield a chat answer as deltas: reasoning first, then content, then calls."""
    in_reasoning = opened(engine, writing.prompt)
    folding = Folding(in_reasoning=in_reasoning, fold_calls=with_tools)
    text, reasoning_sent = "", False
    async with aclosing(write(engine, worker, writing)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            text += piece
            visible = folding.push(piece)
            if visible:
                if not reasoning_sent and (reasoning := parse_reasoning(text, in_reasoning=in_reasoning)[0]):
                    yield {"reasoning_content": reasoning}
                reasoning_sent = True
                yield {"content": visible}
    visible = folding.finish()
    message = chat_message(engine, writing, with_tools=with_tools)
    if not reasoning_sent and message.reasoning:
        yield {"reasoning_content": message.reasoning}
    if visible:
        yield {"content": visible}
    if message.tool_calls:
        yield {"tool_calls": [call_json(call, n) | {"index": n} for n, call in enumerate(message.tool_calls)]}


def opened(engine: Engine, prompt: Sequence[int]) -> bool:
    """Return whether a prompt has opened a reasoning block."""
    return opens_reasoning(engine.tokenizer.decode(list(prompt[-24:]), skip_special_tokens=False))


def chat_message(engine: Engine, writing: Writing, *, with_tools: bool) -> Message:
    """Parse a finished answer; if the request has no tools, call syntax stays text."""
    message = parse_answer(writing.text, in_reasoning=opened(engine, writing.prompt))
    if message.tool_calls and not with_tools:
        reasoning, content = parse_reasoning(writing.text, in_reasoning=opened(engine, writing.prompt))
        message = Message("assistant", content, reasoning=reasoning)
    if message.tool_calls:
        writing.finish_reason = "tool_calls"
    return message


def message_json(message: Message) -> dict[str, Any]:
    """Return a complete answer's message."""
    value: dict[str, Any] = {"role": "assistant", "content": message.content}
    if message.reasoning is not None:
        value["reasoning_content"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [call_json(call, number) for number, call in enumerate(message.tool_calls)]
    return value


def call_json(call: ToolCall, number: int) -> dict[str, Any]:
    """Return a tool call, with its arguments as JSON text."""
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": call.id or f"call_{number}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def usage(writings: Sequence[Writing]) -> dict[str, int]:
    """Return the token counts; each prompt counts once, however many answers it has."""
    prompts = {id(writing.prompt): len(writing.prompt) for writing in writings}
    num_prompt, num_answer = sum(prompts.values()), sum(writing.tokens for writing in writings)
    return {"prompt_tokens": num_prompt, "completion_tokens": num_answer, "total_tokens": num_prompt + num_answer}
