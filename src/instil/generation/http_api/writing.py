"""Turns generated tokens into answers in OpenAI's form, complete or streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from instil.conversation import Message, ToolCall
from instil.generation.constraints.constraint import Constraint
from instil.generation.engine import Engine
from instil.generation.http_api.batch_thread import Logprobs
from instil.generation.http_api.worker import Worker
from instil.generation.logprobs import logprob_entries
from instil.generation.parsing.answer_parser import AnswerParser, Delta
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import TextStream

EVENT_STREAM = "text/event-stream"


@dataclass(slots=True, kw_only=True)
class Writing:
    """One answer of a request while it is generated.

    Attributes:
        number: Its number among the request's choices.
        prompt: Ids of its prompt.
        settings: Its sampling settings.
        num_begun: How many of the prompt's last ids begin the answer.
        echo: Whether the begun part is returned with the rest.
        tokens: Tokens generated so far, the stop token included.
        text: Text so far.
        finish_reason: ``stop``, ``length`` or None.
        constraint: The form of the answer.
        logprobs: Its log-probabilities so far; None if none are requested.
        sent_logprobs: How many of them have been sent in a stream.
        sent_characters: How many characters their tokens have, for the offsets of ``/v1/completions``.
        one_call: Whether the answer ends at its first tool call.
        token_ids: The tokens so far, the stop token included; None if they are not requested.
        sent_token_ids: How many of them have been sent in a stream.
        reused: How many tokens of the prompt were known and not computed again; None if that is not known.
    """

    number: int
    prompt: Sequence[int]
    settings: SamplingSettings
    num_begun: int = 0
    echo: bool = False
    tokens: int = 0
    text: str = ""
    finish_reason: str | None = None
    pieces: list[str] = field(default_factory=list)
    constraint: Constraint | None = None
    logprobs: Logprobs | None = None
    sent_logprobs: int = 0
    sent_characters: int = 0
    one_call: bool = False
    token_ids: list[int] | None = None
    sent_token_ids: int = 0
    reused: int | None = None

    def read(self, reused: int) -> None:
        """Note that the prompt was read, all but its `reused` tokens."""
        self.reused = reused


async def write(engine: Engine, worker: Worker, writing: Writing) -> AsyncIterator[str]:
    """Generate one answer and yield its text as it becomes certain; `writing` holds the state and the end."""
    stops = frozenset(engine.stop_ids)
    begun_ids = writing.prompt[len(writing.prompt) - writing.num_begun :]
    stream = TextStream(engine.decode, stop=writing.settings.stop, before=begun_ids)
    room = worker.room(writing.prompt)
    settings = replace(writing.settings, max_new_tokens=min(writing.settings.max_new_tokens, room), num_answers=1)
    generated = worker.generate(
        writing.prompt,
        settings,
        num_begun=writing.num_begun,
        constraint=writing.constraint,
        logprobs=writing.logprobs,
        on_read=writing.read,
    )
    async with aclosing(generated) as tokens:  # type: ignore[type-var]
        async for token in tokens:
            writing.tokens += 1
            if writing.token_ids is not None:
                writing.token_ids.append(token)
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
    engine: Engine, worker: Worker, writing: Writing, *, tools: frozenset[str]
) -> AsyncIterator[Delta]:
    """Generate one chat answer and yield what each piece adds; `writing` holds the state and the end.

    The begun part of an answer is parsed with the rest, so that a call or reasoning that it opens is recognised.
    """
    parser = AnswerParser(in_reasoning=engine.opened(writing.prompt, writing.num_begun), tools=tools)
    begun, has_calls = engine.begun_text(writing.prompt, writing.num_begun), False
    if writing.echo:
        for delta in parser.push(begun):
            has_calls |= delta.call is not None
            yield delta
    else:
        parser.begin(begun)
    async with aclosing(write(engine, worker, writing)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            for delta in parser.push(piece):
                has_calls |= delta.call is not None
                yield delta
                if has_calls and writing.one_call:
                    writing.finish_reason = "tool_calls"
                    return
    for delta in parser.finish():
        has_calls |= delta.call is not None
        yield delta
    # An answer that was cut may have been about to make a further call.
    if has_calls and writing.finish_reason == "stop":
        writing.finish_reason = "tool_calls"


def fresh_token_ids(writing: Writing) -> dict[str, list[int]]:
    """Return the ids since the last call as a part of a choice; nothing if they are not requested."""
    if writing.token_ids is None:
        return {}
    fresh = writing.token_ids[writing.sent_token_ids :]
    writing.sent_token_ids += len(fresh)
    return {"token_ids": fresh}


def chat_logprobs(engine: Engine, writing: Writing, *, end: int | None = None) -> dict[str, Any] | None:
    """Return the log-probabilities since the last call; None if none are requested.

    The list has an entry for every generated token but the stop token, those of reasoning and calls included.
    """
    if writing.logprobs is None:
        return None
    entries = writing.logprobs.entries[writing.sent_logprobs : end]
    writing.sent_logprobs += len(entries)
    return {"content": logprob_entries(engine.tokenizer, entries), "refusal": None}


def completion_logprobs(engine: Engine, writing: Writing) -> dict[str, Any] | None:
    """Return the log-probabilities since the last call in the form of ``/v1/completions``."""
    if writing.logprobs is None:
        return None
    content = (chat_logprobs(engine, writing) or {})["content"]
    offsets = []
    for entry in content:
        offsets.append(writing.sent_characters)
        writing.sent_characters += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in content],
        "token_logprobs": [entry["logprob"] for entry in content],
        "top_logprobs": [{top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in content],
        "text_offset": offsets,
    }


def delta_json(delta: Delta, *, number: int) -> dict[str, Any]:
    """Return a streamed delta; `number` counts the calls before it."""
    if delta.call is not None:
        return {"tool_calls": [call_json(delta.call, number) | {"index": number}]}
    return {"reasoning_content": delta.reasoning} if delta.reasoning else {"content": delta.content}


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


def usage(writings: Sequence[Writing]) -> dict[str, Any]:
    """Return the token counts; each prompt counts once, however many answers it has.

    ``cached_tokens`` are those of the prompts that no answer computed. They are left out if they are not known.
    """
    prompts = {id(writing.prompt): len(writing.prompt) for writing in writings}
    num_prompt, num_answer = sum(prompts.values()), sum(writing.tokens for writing in writings)
    counts = {"prompt_tokens": num_prompt, "completion_tokens": num_answer, "total_tokens": num_prompt + num_answer}
    reused: dict[int, int] = {}
    for writing in writings:
        if writing.reused is None:
            return counts
        reused[id(writing.prompt)] = min(writing.reused, reused.get(id(writing.prompt), writing.reused))
    return counts | {"prompt_tokens_details": {"cached_tokens": sum(reused.values())}}


def event(value: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
