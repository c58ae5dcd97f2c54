"""One engine behind HTTP: reads bodies, encodes prompts, and counts the answers in progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from instil.errors import InstilError
from instil.generation.constraints.constraint import Constraint
from instil.generation.constraints.forms import CallForm, JsonForm
from instil.generation.engine import Engine
from instil.generation.http_api.batch_thread import ENDED, Logprobs
from instil.generation.http_api.bodies import read_body, shown
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.prompts import EncodedPrompt, encode_prompts
from instil.generation.http_api.requests import ParsedRequest
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.worker import Worker
from instil.generation.http_api.writing import Writing

Result = TypeVar("Result")


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

    async def prompts(self, request: ParsedRequest) -> list[EncodedPrompt]:
        """Encode a request's prompts; reject those that are too long."""
        prompts = await self.encoding(encode_prompts, self.engine, request)
        for prompt in prompts:
            if self.worker.room(prompt.token_ids) < 1:
                raise Problem(
                    400,
                    f"the prompt has {len(prompt.token_ids)} tokens. The context has {self.worker.room(()):,}, answer included. "
                    "Shorten it.",
                    param="messages" if request.conversation else "prompt",
                    code="context_length_exceeded",
                )
        return prompts

    async def encoding(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do work that needs the tokenizer, in a thread, one at a time."""
        async with self._encoding:
            return await asyncio.to_thread(work, *arguments)

    def check_load(self, count: int) -> None:
        """Raise a `Problem` if so many further answers are too many."""
        if self._num_in_progress + count > self.settings.max_requests:
            raise Problem(429, f"{self._num_in_progress} answers are in progress. Try again later.")

    async def writings(self, request: ParsedRequest) -> list[Writing]:
        """Encode a request's prompts; reject prompts that are too long, and requests that are too many."""
        prompts = await self.prompts(request)
        alone = request.form is not None or request.top_logprobs is not None
        refusal = self.worker.refusal(request.settings, alone=alone)
        if refusal is not None:
            raise Problem(400, refusal, param="seed" if request.settings.seed is not None else None)
        constraint = None if request.form is None else await self._constraint(request.form, prompts[0])
        num_answers = request.settings.num_answers  # of each prompt
        self.check_load(len(prompts) * num_answers)
        if not self.worker.alive:
            raise Problem(503, ENDED)
        return [
            Writing(
                number=number,
                prompt=prompt.token_ids,
                settings=self._seeded(request, number % num_answers),
                num_begun=prompt.num_begun,
                echo=request.echo,
                constraint=constraint,
                logprobs=None if request.top_logprobs is None else Logprobs(request.top_logprobs),
                one_call=request.one_call,
                token_ids=[] if request.return_token_ids else None,
            )
            for number, prompt in enumerate(prompt for prompt in prompts for _ in range(num_answers))
        ]

    async def _constraint(self, form: JsonForm | CallForm, prompt: EncodedPrompt) -> Constraint:
        """Compile the form of a chat request. Other requests go on meanwhile: llguidance releases Python's lock."""

        def compiled() -> Constraint:
            constraint = self.engine.constraint(form, prompt.token_ids, prompt.num_begun)
            constraint.start(prompt.token_ids[len(prompt.token_ids) - prompt.num_begun :])
            return constraint

        try:
            return await asyncio.to_thread(compiled)
        except InstilError as error:
            raise Problem(400, str(error), param=str(error).partition(": ")[0]) from None

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
