"""The application: routes, limits, access.

Each request reads its own body under a limit and has its own queue of tokens. It is cancelled when its client leaves
or its time is over. No request waits for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from instil.errors import InstilError
from instil.generation.engine import Engine
from instil.generation.http_api.bodies import of_request, read_body, shown
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.requests import ParsedRequest, read_chat, read_completion
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.worker import Worker
from instil.generation.http_api.writing import Writing, chat_deltas, delta_json, message_json, usage, write
from instil.generation.parsing import message_of

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVENT_STREAM = "text/event-stream"
LAST_WORDS_SECONDS = 1.0
"""How long the last event of a stream, which contains the reason for its end, may wait for its reader."""


class Service:
    """One engine behind HTTP.

    Attributes:
        names: Names by which clients may address the model.
    """

    def __init__(self, engine: Engine, worker: Worker, settings: ServeSettings) -> None:
        self.engine, self.worker, self.settings = engine, worker, settings
        self.names = tuple(dict.fromkeys((settings.served_name or engine.name, engine.name)))
        self.created = int(time.time())
        self._num_in_progress = 0
        self._encoding = asyncio.Lock()

    async def read(self, request: Request) -> dict[str, Any]:
        """Read a JSON body under the limits, and check the model's name."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, f"content type: found {kind or 'none'}. Expected application/json.")
        if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
            raise Problem(415, f"content encoding: found {coding}. Expected none. Send the body uncompressed.")
        most, body = int(self.settings.max_body_mb * 1_000_000), bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Problem(413, f"the body is larger than {self.settings.max_body_mb:g} MB. Send a smaller one.")
        except ClientDisconnect:
            raise Problem(400, "the client left before its body had arrived.") from None
        value = read_body(bytes(body))
        model, served = value.get("model"), f"Served here: {', '.join(self.names)}."
        if not isinstance(model, str):
            found = "missing" if model is None else f"found {shown(model)}"
            raise Problem(400, f"model: {found}. Expected a name. {served}", param="model")
        if model not in self.names:
            raise Problem(404, f"no model {shown(model)}. {served}", param="model", code="model_not_found")
        return value

    async def writings(self, request: ParsedRequest) -> list[Writing]:
        """Encode a request's prompts; reject prompts that are too long, and requests that are too many."""
        async with self._encoding:
            prompts = await asyncio.to_thread(self._encode, request)
        for prompt in prompts:
            if self.worker.room(prompt) < 1:
                raise Problem(
                    400,
                    f"the prompt has {len(prompt)} tokens. The context has {self.worker.room(()):,}, answer included. "
                    "Shorten it.",
                    param="messages" if request.conversation else "prompt",
                    code="context_length_exceeded",
                )
        refusal = self.worker.refusal(request.settings)
        if refusal is not None:
            raise Problem(400, refusal, param="seed" if request.settings.seed is not None else None)
        num_answers = request.settings.num_answers  # of each prompt
        if self._num_in_progress + len(prompts) * num_answers > self.settings.max_requests:
            raise Problem(429, f"{self._num_in_progress} answers are in progress. Try again later.")
        if not self.worker.alive:
            raise Problem(503, "the generation thread has ended. Start the server again.")
        return [
            Writing(number=number, prompt=prompt, settings=self._seeded(request, number % num_answers))
            for number, prompt in enumerate(prompt for prompt in prompts for _ in range(num_answers))
        ]

    def _encode(self, request: ParsedRequest) -> list[list[int]]:
        try:
            if request.conversation is None:
                return [self._completion_ids(prompt) for prompt in request.prompts]
            if self.engine.chat is None:
                raise Problem(400, f"{self.engine.name} has no chat template. Use /v1/completions, or --template.")
            return [self.engine.prompt(request.conversation)]
        except InstilError as error:
            message = of_request(str(error))
            raise Problem(400, message, param="messages" if request.conversation else "prompt") from None

    def _completion_ids(self, prompt: str | tuple[int, ...]) -> list[int]:
        if isinstance(prompt, str):
            return self.engine.plain_prompt(prompt)
        vocabulary = len(self.engine.tokenizer)
        if max(prompt) >= vocabulary:
            raise Problem(
                400, f"prompt: found token id {max(prompt)}. The vocabulary has {vocabulary}.", param="prompt"
            )
        return list(prompt)

    @staticmethod
    def _seeded(request: ParsedRequest, answer: int) -> Any:
        """Return the settings of one answer; each answer of a prompt has a seed of its own."""
        seed = request.settings.seed
        return replace(request.settings, num_answers=1, seed=None if seed is None else seed + answer)

    @asynccontextmanager
    async def in_progress(self, count: int) -> AsyncIterator[None]:
        """Count answers as in progress while the context is open."""
        self._num_in_progress += count
        try:
            yield
        finally:
            self._num_in_progress -= count


def create_app(engine: Engine, settings: ServeSettings) -> FastAPI:
    """Return the application; its worker starts and ends with it."""
    worker = Worker(engine, cache_tokens=settings.cache_tokens)
    service = Service(engine, worker, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    app = FastAPI(title="instil", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service

    async def rejected(_: Request, problem: Problem) -> Response:
        return JSONResponse(problem.body(), status_code=problem.status)

    async def not_found(request: Request, error: HTTPException) -> Response:
        problem = Problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        return JSONResponse(problem.body(), status_code=error.status_code)

    async def failed(_: Request, error: Exception) -> Response:
        problem = Problem(500, f"internal error ({type(error).__name__}). The server's log has more.")
        return JSONResponse(problem.body(), status_code=500)

    async def health() -> Response:
        return JSONResponse({"status": "ok" if worker.alive else "ended"}, status_code=200 if worker.alive else 503)

    async def models() -> Response:
        entries = [
            {"id": name, "object": "model", "created": service.created, "owned_by": "instil"} for name in service.names
        ]
        return JSONResponse({"object": "list", "data": entries})

    async def chat(request: Request) -> Response:
        parsed = read_chat(await service.read(request), most=settings.max_new_tokens)
        return await _respond(service, request, parsed, kind="chat.completion")

    async def complete(request: Request) -> Response:
        parsed = read_completion(await service.read(request), most=settings.max_new_tokens)
        return await _respond(service, request, parsed, kind="text_completion")

    app.add_exception_handler(Problem, rejected)
    app.add_exception_handler(HTTPException, not_found)
    app.add_exception_handler(Exception, failed)
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_api_route("/v1/completions", complete, methods=["POST"])
    app.add_middleware(Gate, settings=settings)
    return app


class Gate:
    """Checks host and key before anything else, and ends requests whose time is over, even in a blocked write."""

    def __init__(self, app: Any, *, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or reject it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._rejection({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        started = streams = False

        async def watched(message: Any) -> None:
            nonlocal started, streams
            if message["type"] == "http.response.start":
                streams = any(value.startswith(EVENT_STREAM.encode()) for _, value in message["headers"])
            started, streams = True, streams and (not started or message.get("more_body", False))
            await send(message)

        if problem is None:
            try:
                async with asyncio.timeout(self._settings.max_seconds):
                    await self._app(scope, receive, watched)
                return
            except TimeoutError:
                problem = Problem(504, f"not answered within {self._settings.max_seconds:g} seconds.")
                if started:
                    await _end_stream(send, problem, still_open=streams)
                    return
        await JSONResponse(problem.body(), status_code=problem.status)(scope, receive, send)

    def _rejection(self, headers: dict[str, str]) -> Problem | None:
        key = self._settings.api_key
        if key is not None:
            sent_key = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if secrets.compare_digest(sent_key.encode(), key.encode()):
                return None
            return Problem(401, "wrong or missing API key. Send Authorization: Bearer KEY.", code="invalid_api_key")
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
        if name not in LOOPBACK:  # a web page that reaches this machine by another name
            return Problem(403, f"host {host!r} is not this machine's loopback. Set an API key to serve others.")
        return None


async def _end_stream(send: Any, problem: Problem, *, still_open: bool) -> None:
    """Send a stream's last event, with the reason for its end, without waiting for a client that does not read."""
    if still_open:
        last = {"type": "http.response.body", "body": _event(problem.body()).encode(), "more_body": False}
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await send(last)


async def _respond(service: Service, request: Request, parsed: ParsedRequest, *, kind: str) -> Response:
    writings = await service.writings(parsed)
    head = {"id": f"{'chatcmpl' if parsed.conversation else 'cmpl'}-{uuid.uuid4().hex}", "created": int(time.time())}
    head["model"] = service.names[0]
    if parsed.stream:
        events = _events(service, parsed, writings, head, kind)
        return StreamingResponse(events, media_type=EVENT_STREAM, headers={"Cache-Control": "no-cache"})
    async with service.in_progress(len(writings)):
        choices = await _unless_gone(request, lambda: _choices(service, parsed, writings))
    if choices is None:
        return Response(status_code=499)
    return JSONResponse({**head, "object": kind, "choices": choices, "usage": usage(writings)})


async def _choices(service: Service, parsed: ParsedRequest, writings: list[Writing]) -> list[dict[str, Any]]:
    async def one(writing: Writing) -> dict[str, Any]:
        if parsed.conversation is None:
            async with aclosing(write(service.engine, service.worker, writing)) as pieces:  # type: ignore[type-var]
                async for _ in pieces:
                    pass
            return {
                "index": writing.number,
                "text": writing.text,
                "logprobs": None,
                "finish_reason": writing.finish_reason,
            }
        deltas = chat_deltas(service.engine, service.worker, writing, tools=parsed.tools)
        async with aclosing(deltas) as open_deltas:  # type: ignore[type-var]
            message = message_json(message_of([delta async for delta in open_deltas]))
        return {
            "index": writing.number, "message": message, "logprobs": None, "finish_reason": writing.finish_reason,
        }  # fmt: skip

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(writing)) for writing in writings]
    except* InstilError as errors:
        raise Problem(500, str(errors.exceptions[0])) from None
    return [task.result() for task in tasks]


async def _unless_gone(request: Request, work: Callable[[], Awaitable[Any]]) -> Any:
    """Do the work; if the client leaves first, cancel it and return None."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work()), asyncio.ensure_future(left())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _events(
    service: Service, parsed: ParsedRequest, writings: list[Writing], head: dict[str, Any], kind: str
) -> AsyncIterator[str]:
    """Yield server-sent events: the pieces of all answers as they arrive, their ends, the counts, ``[DONE]``."""
    arrived: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
    chunk_kind = f"{kind}.chunk" if parsed.conversation else kind

    async def one(writing: Writing) -> None:
        try:
            if parsed.conversation is None:
                async with aclosing(write(service.engine, service.worker, writing)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        await arrived.put(_choice(writing, text=piece))
                await arrived.put(_choice(writing, text="", ends=True))
            else:
                await arrived.put(_choice(writing, delta={"role": "assistant", "content": ""}))
                deltas, num_calls = chat_deltas(service.engine, service.worker, writing, tools=parsed.tools), 0
                async with aclosing(deltas) as open_deltas:  # type: ignore[type-var]
                    async for delta in open_deltas:
                        await arrived.put(_choice(writing, delta=delta_json(delta, number=num_calls)))
                        num_calls += delta.call is not None
                await arrived.put(_choice(writing, delta={}, ends=True))
        except InstilError as error:
            await arrived.put(error)
        finally:
            arrived.put_nowait(None)

    async with service.in_progress(len(writings)):
        tasks = [asyncio.ensure_future(one(writing)) for writing in writings]
        try:
            open_answers = len(tasks)
            while open_answers:
                item = await arrived.get()
                if isinstance(item, Exception):
                    yield _event(Problem(500, str(item)).body())
                elif item is None:
                    open_answers -= 1
                else:
                    yield _event({**head, "object": chunk_kind, "choices": [item]})
            if parsed.include_usage:
                yield _event({**head, "object": chunk_kind, "choices": [], "usage": usage(writings)})
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _choice(writing: Writing, *, ends: bool = False, **content: Any) -> dict[str, Any]:
    reason = writing.finish_reason if ends else None
    return {"index": writing.number, **content, "logprobs": None, "finish_reason": reason}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
