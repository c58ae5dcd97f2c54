"""The application: its routes, and their answers, complete or as a stream of events.

Each request reads its own body under a limit and has its own queue of tokens. It is cancelled when its client leaves
or its time is over. No request waits for another one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from instil.errors import InstilError
from instil.generation.constraints.constraint import UnfinishedFormError
from instil.generation.engine import Engine
from instil.generation.http_api.ending import Ending
from instil.generation.http_api.gate import Gate
from instil.generation.http_api.page.files import OPEN_PATHS, add_page
from instil.generation.http_api.page.tokens import explained
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.request_log import log_answers
from instil.generation.http_api.requests import ParsedRequest, read_chat, read_completion
from instil.generation.http_api.service import Service
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.worker import Worker
from instil.generation.http_api.writing import (
    EVENT_STREAM,
    Writing,
    chat_deltas,
    chat_logprobs,
    completion_logprobs,
    delta_json,
    event,
    fresh_token_ids,
    message_json,
    usage,
    write,
)
from instil.generation.parsing.complete import message_of


def create_app(engine: Engine, settings: ServeSettings) -> FastAPI:
    """Return the application; its worker starts and ends with it."""
    engine.keep_prefixes(int(settings.prefix_mb * 1e6))
    worker = Worker(engine, cache_tokens=settings.cache_tokens)
    service = Service(engine, worker, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    app = FastAPI(title="instil", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service, app.state.ending = service, Ending()

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

    async def tokens(request: Request) -> Response:
        return JSONResponse(await explained(service, await service.read(request)))

    app.add_exception_handler(Problem, rejected)
    app.add_exception_handler(HTTPException, not_found)
    app.add_exception_handler(Exception, failed)
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_api_route("/v1/completions", complete, methods=["POST"])
    app.add_api_route("/instil/tokens", tokens, methods=["POST"])
    add_page(app)
    app.add_middleware(Gate, settings=settings, ending=app.state.ending, open_paths=OPEN_PATHS)
    return app


async def _respond(service: Service, request: Request, parsed: ParsedRequest, *, kind: str) -> Response:
    writings = await service.writings(parsed)
    log_answers(request.scope, writings)
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
                "logprobs": completion_logprobs(service.engine, writing),
                "finish_reason": writing.finish_reason,
                **fresh_token_ids(writing),
            }
        deltas = chat_deltas(service.engine, service.worker, writing, tools=parsed.tools)
        async with aclosing(deltas) as open_deltas:  # type: ignore[type-var]
            message = message_json(message_of([delta async for delta in open_deltas]))
        return {
            "index": writing.number,
            "message": message,
            "logprobs": chat_logprobs(service.engine, writing),
            "finish_reason": writing.finish_reason,
            **fresh_token_ids(writing),
        }

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(writing)) for writing in writings]
    except* InstilError as errors:
        raise _problem_of(errors.exceptions[0]) from None
    return [task.result() for task in tasks]


def _problem_of(error: BaseException) -> Problem:
    """Return how a failed answer is reported: a form that cannot be followed is the request's fault."""
    if isinstance(error, UnfinishedFormError):
        return Problem(400, str(error), param=str(error).partition(": ")[0])
    return Problem(500, str(error))


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
                        await arrived.put(_choice(service.engine, writing, text=piece))
                await arrived.put(_choice(service.engine, writing, text="", ends=True))
            else:
                await arrived.put(_choice(service.engine, writing, delta={"role": "assistant", "content": ""}))
                deltas, num_calls = chat_deltas(service.engine, service.worker, writing, tools=parsed.tools), 0
                async with aclosing(deltas) as open_deltas:  # type: ignore[type-var]
                    async for delta in open_deltas:
                        await arrived.put(_choice(service.engine, writing, delta=delta_json(delta, number=num_calls)))
                        num_calls += delta.call is not None
                await arrived.put(_choice(service.engine, writing, delta={}, ends=True))
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
                    yield event(_problem_of(item).body())
                elif item is None:
                    open_answers -= 1
                else:
                    yield event({**head, "object": chunk_kind, "choices": [item]})
            if parsed.include_usage:
                yield event({**head, "object": chunk_kind, "choices": [], "usage": usage(writings)})
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _choice(engine: Engine, writing: Writing, *, ends: bool = False, **content: Any) -> dict[str, Any]:
    fresh = completion_logprobs if "text" in content else chat_logprobs
    reason = writing.finish_reason if ends else None
    choice = {"index": writing.number, **content, "logprobs": fresh(engine, writing), "finish_reason": reason}
    return choice | fresh_token_ids(writing)
