"""Answers being written: a task for each model, which goes on when the page is closed, and keeps what it has.

The server holds an answer only while it is written. The chat's file gets it every second and at its end; a studio that
starts later shows one that was cut off so as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from instil.studio.chat import client
from instil.studio.chat.engines import engine_of, find_job, make_room, mark_used, start_engine
from instil.studio.chat.messages import request_body
from instil.studio.chat.models import ServedModel
from instil.studio.chat.records import LIVE, Chat, Reply
from instil.studio.chat.storage import change_chat
from instil.studio.events import event
from instil.studio.jobs.engine_key import engine_key
from instil.studio.problems import PageProblem
from instil.studio.studio import Studio

LOOK_SECONDS = 0.25
"""How often a server that loads its model is looked at."""
PIECE_SECONDS = 0.05
"""How long pieces of an answer are gathered before a page gets them."""
SAVE_SECONDS = 1.0
"""How often an answer is kept while it is written."""


@dataclass(slots=True)
class Live:
    """The answers of one chat that are being written.

    Attributes:
        replies: How far each is, by the model's place.
        notes: What each waits for, as the last part of a key; or empty.
        token_ids: The generated ids of each so far.
        tasks: The task of each.
        changed: Set, and made anew, whenever something changes.
        last: The task that waits for the others; held here, because a task that nobody holds may vanish.
    """

    replies: list[Reply]
    notes: list[str]
    token_ids: list[list[int]]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    last: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wake whoever follows."""
        self.changed.set()
        self.changed = asyncio.Event()


Answers = dict[str, Live]
"""The answers being written, by the name of their chat."""


def answers_of(request: Request) -> Answers:
    """Return the answers that this server is writing."""
    state = request.app.state
    if not hasattr(state, "answers"):
        state.answers = {}
    answers: Answers = state.answers
    return answers


def start_answers(studio: Studio, answers: Answers, chat: Chat, models: list[ServedModel]) -> None:
    """Let the models answer the last exchange of a chat; those of its replies that wait are written."""
    number = len(chat.exchanges) - 1
    replies = list(chat.exchanges[number].replies)
    live = answers[chat.identity] = Live(replies, ["starting"] * len(replies), [[] for _ in replies])
    seed = chat.settings.sampling.seed
    seed = secrets.randbelow(2**31) if seed is None else seed
    for side, reply in enumerate(replies):
        if reply.state == "waits":
            live.replies[side] = replace(reply, seed=seed)
            live.tasks.append(asyncio.create_task(_answer(studio, live, chat, side, number, models)))
    live.last = asyncio.create_task(_forget(answers, chat.identity, live))


async def stop_answers(answers: Answers, identity: str) -> None:
    """Stop the answers of a chat; what they have is kept."""
    live = answers.get(identity)
    if live is None:
        return
    for task in live.tasks:
        task.cancel()
    await asyncio.gather(*live.tasks, return_exceptions=True)


async def follow(live: Live, *, notes: Mapping[str, str]) -> AsyncIterator[str]:
    """Yield events: ``reply`` with the whole of each answer, then ``piece`` with what is added; ``done`` at the end.

    Args:
        live: The answers.
        notes: What each note is in the reader's language.
    """
    sent: list[tuple[str, str]] = []
    for side, reply in enumerate(live.replies):
        note = notes.get(live.notes[side], "")
        yield event("reply", {"side": side, "text": reply.text, "reasoning": reply.reasoning, "note": note})
        sent.append((reply.text, reply.reasoning))
    while True:
        changed = live.changed
        news = ""
        for side, reply in enumerate(live.replies):
            text, reasoning = sent[side]
            sent[side] = (reply.text, reply.reasoning)
            piece = {
                "side": side,
                "text": reply.text[len(text) :],
                "reasoning": reply.reasoning[len(reasoning) :],
                "note": notes.get(live.notes[side], ""),
            }
            news += event("piece", piece)
        is_done = all(task.done() for task in live.tasks)
        yield news + (event("done", None) if is_done else "")
        if is_done:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), timeout=2.0)
            await asyncio.sleep(PIECE_SECONDS)


async def _forget(answers: Answers, identity: str, live: Live) -> None:
    await asyncio.gather(*live.tasks, return_exceptions=True)
    live.tell()
    if answers.get(identity) is live:
        del answers[identity]


async def _answer(studio: Studio, live: Live, chat: Chat, side: int, number: int, models: list[ServedModel]) -> None:
    """Write one answer; whatever happens, its state is in the chat's file afterwards."""
    start = time.monotonic()

    async def keep() -> None:
        reply = replace(live.replies[side], token_ids=tuple(live.token_ids[side]))
        with contextlib.suppress(PageProblem):  # the chat was removed meanwhile
            await asyncio.to_thread(
                change_chat, studio.root, chat.identity, lambda now: now.with_reply(number, side, reply)
            )

    def become(**changes: Any) -> None:
        live.replies[side] = replace(live.replies[side], **changes)
        live.tell()

    job = 0
    try:
        job, port = await _served(studio, live, side, models)
        live.notes[side] = ""
        start = time.monotonic()
        become(state="writing")
        await _write(studio, live, chat, side, number, models[side], job, port, keep)
    except asyncio.CancelledError:
        become(state="stopped")
    except client.EngineError as error:
        text = str(error) or await _why_gone(studio, job)
        become(state="failed", error=text)
    except _NotServedError as error:
        become(state="failed", error=str(error))
    except Exception as error:
        become(state="failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        become(seconds=round(time.monotonic() - start, 2))
        live.notes[side] = ""
        await asyncio.shield(keep())


async def _write(
    studio: Studio, live: Live, chat: Chat, side: int, number: int, model: ServedModel, job: int, port: int, keep: Any
) -> None:
    seed = live.replies[side].seed
    assert seed is not None
    body = request_body(chat, side, number, model=model.served_name, seed=seed)
    saved, reason = time.monotonic(), ""
    key = engine_key(studio.root)
    async with contextlib.aclosing(client.events(port, key, "/v1/chat/completions", body)) as pieces:
        async for piece in pieces:
            reply = live.replies[side]
            if piece.get("usage"):
                reply = replace(reply, prompt_tokens=piece["usage"]["prompt_tokens"])
            for choice in piece.get("choices", ()):
                delta = choice.get("delta") or {}
                reply = replace(
                    reply,
                    text=reply.text + (delta.get("content") or ""),
                    reasoning=reply.reasoning + (delta.get("reasoning_content") or ""),
                    calls=(*reply.calls, *(_call(call) for call in delta.get("tool_calls") or ())),
                )
                live.token_ids[side] += choice.get("token_ids") or ()
                reason = choice.get("finish_reason") or reason
            live.replies[side] = reply
            live.tell()
            if time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                await asyncio.to_thread(mark_used, studio, job)
                await keep()
    await asyncio.to_thread(mark_used, studio, job)
    live.replies[side] = replace(live.replies[side], state="cut" if reason == "length" else "done")


def _call(call: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "index"}


class _NotServedError(Exception):
    """The server of a model has ended before it was ready."""


async def _served(studio: Studio, live: Live, side: int, models: list[ServedModel]) -> tuple[int, int]:
    """Wait until a model is served; return the job and its port."""
    number = await asyncio.to_thread(start_engine, studio, models[side])
    key = engine_key(studio.root)
    while True:
        job = await asyncio.to_thread(studio.queue.job, number)
        if job is None or job.state not in ("queued", "running"):
            raise _NotServedError(await asyncio.to_thread(last_words, studio, number))
        note = "waiting" if job.state == "queued" else "loading"
        if live.notes[side] != note:
            live.notes[side] = note
            live.tell()
        if job.state == "queued":
            await asyncio.to_thread(make_room, studio, await asyncio.to_thread(_needed, studio, models))
        engine = await asyncio.to_thread(engine_of, studio, number)
        if engine.port is not None and await client.is_ready(engine.port, key):
            return number, engine.port
        await asyncio.to_thread(mark_used, studio, number)
        await asyncio.sleep(LOOK_SECONDS)


def _needed(studio: Studio, models: list[ServedModel]) -> set[int]:
    return {job.number for model in models if (job := find_job(studio, model)) is not None}


async def _why_gone(studio: Studio, number: int) -> str:
    """Return why a server broke off; the queue needs a moment to record it."""
    for _ in range(12):
        job = await asyncio.to_thread(studio.queue.job, number)
        if job is None or job.state != "running":
            break
        await asyncio.sleep(LOOK_SECONDS)
    return await asyncio.to_thread(last_words, studio, number)


def last_words(studio: Studio, number: int) -> str:
    """Return the end of a server's log, and how it ended."""
    job = studio.queue.job(number)
    try:
        lines = studio.queue.folder(number).log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    code = None if job is None else job.exit_code
    how = f"The model's server ended ({'killed' if code is None else f'signal {-code}' if code < 0 else f'status {code}'})"
    if job is not None and job.state == "running":
        how = "The model's server does not answer"
    return "\n".join([f"{how}; job {number} has its log.", *(line[:500] for line in lines[-3:])])


def is_lost(chat: Chat, answers: Answers) -> bool:
    """Return whether a chat's file says that an answer is being written, and nobody writes it."""
    return chat.is_live and chat.identity not in answers


def with_lost(chat: Chat) -> Chat:
    """Return a chat whose unfinished answers are lost."""
    number = len(chat.exchanges) - 1
    for side, reply in enumerate(chat.exchanges[number].replies):
        if reply.state in LIVE:
            chat = chat.with_reply(number, side, replace(reply, state="lost"))
    return chat
