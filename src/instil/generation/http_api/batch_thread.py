"""Answers all requests in one thread, in a batch that rows join and leave between two tokens.

A request that is alone is a batch of one, with the loop and the cache for one row. When a second one comes, its prompt
is read and its row joins; what the first one has generated stays in place. Each row has its own seed, penalties, form
and log-probabilities, so every request can share the batch.

Why: one thread for the model. Two forward passes at a time would share the memory that both wait for.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from instil.errors import GenerationError
from instil.generation.constraints.constraint import Constraint
from instil.generation.decoding import answering, rows_at_once
from instil.generation.engine import Engine
from instil.generation.logprobs import TokenLogprob
from instil.generation.rows import Row, make_rows
from instil.generation.running_batch import RunningBatch
from instil.generation.settings import SamplingSettings

READ_TOKENS = 1_024
"""Prompt tokens after which no further row joins between two tokens, so that the rows in progress do not wait long."""
ENDED = "the generation thread has ended. Start the server again."
_Item: TypeAlias = int | Exception | None
"""What a request receives: a token, what went wrong, or the end."""


@dataclass(slots=True)
class Logprobs:
    """The log-probabilities of one answer while it is generated.

    Attributes:
        num_top: How many alternatives each token has.
        entries: One for each token so far; the stop token has none.
    """

    num_top: int
    entries: list[TokenLogprob] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class _Request:
    """One answer that a client waits for.

    Attributes:
        row: The answer while it is generated.
        logprobs: Filled with a log-probability for each token, before the token is sent.
        loop: The event loop of the client's connection.
        arrived: Where its tokens go.
        gone: Whether nobody waits for it any more.
    """

    row: Row
    logprobs: Logprobs | None
    loop: asyncio.AbstractEventLoop
    arrived: asyncio.Queue[_Item] = field(default_factory=asyncio.Queue)
    gone: bool = False

    @property
    def width(self) -> int:
        """Most tokens that the row can come to have."""
        return len(self.row.prompt) + self.row.limit


class BatchThread:
    """The thread that generates for one engine.

    Args:
        engine: The model.
        cache_tokens: Tokens in the key-value cache, over all rows in progress: their number times the longest.
    """

    def __init__(self, engine: Engine, *, cache_tokens: int) -> None:
        self._engine = engine
        self._cache_tokens = cache_tokens
        # None ends the thread.
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; requests in progress fail."""
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def alive(self) -> bool:
        """Whether requests can be answered."""
        return self._thread.is_alive()

    async def generate(
        self,
        prompt: Sequence[int],
        settings: SamplingSettings,
        *,
        num_begun: int = 0,
        constraint: Constraint | None = None,
        logprobs: Logprobs | None = None,
        on_read: Callable[[int], None] | None = None,
    ) -> AsyncIterator[int]:
        """Yield the tokens of one answer as they are generated; a stop token is the last one.

        Args:
            prompt: Ids of the prompt.
            settings: Its sampling settings. Finding stop strings is up to the caller.
            num_begun: How many of the prompt's last ids begin the answer.
            constraint: The form of the answer.
            logprobs: Filled with a log-probability for each token, before the token is yielded.
            on_read: Called before the first token with how many tokens of the prompt were not computed again.
        """
        (row,) = make_rows(
            self._engine.model,
            [prompt],
            settings=replace(settings, num_answers=1, stop=()),
            decode=None,
            num_begun=(num_begun,),
            constraints=() if constraint is None else (constraint,),
            num_top=None if logprobs is None else logprobs.num_top,
        )
        request = _Request(row=row, logprobs=logprobs, loop=asyncio.get_running_loop())
        if not self.alive:
            raise GenerationError(ENDED)
        self._inbox.put(request)
        try:
            while (item := await request.arrived.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                if on_read is not None:
                    on_read(row.num_reused)
                    on_read = None
                yield item
        finally:
            request.gone = True

    def _work(self) -> None:
        while not self._ends:
            # The first turn finds no request, and proves the plain steps before one comes.
            try:
                with answering(self._engine.model):
                    self._answer()
            except Exception as error:  # raised in each request that waits for it
                self._fail(error)
            self._take_inbox(wait=True)
        self._fail(GenerationError(ENDED))

    def _answer(self) -> None:
        """Answer until no request is left."""
        batch = RunningBatch(self._engine.model, stop_ids=self._engine.stop_ids, steps=self._engine.steps)
        while (self._running or self._waiting) and not self._ends:
            self._take_inbox(wait=False)
            self._admit(batch)
            if not self._running:
                continue
            batch.choose()
            self._send()
            batch.step()

    def _take_inbox(self, *, wait: bool) -> None:
        """Move what has come to the queue of requests; `wait` for the first one."""
        with suppress(queue.Empty):
            while True:
                request = self._inbox.get(block=wait)
                wait = False
                if request is None:
                    self._ends = True
                else:
                    self._waiting.append(request)

    def _admit(self, batch: RunningBatch) -> None:
        """Let waiting requests join, in their order, as far as the cache and the model allow."""
        fresh: list[_Request] = []
        tokens = 0
        while self._waiting and batch.takes_more and tokens < READ_TOKENS:
            request = self._waiting[0]
            if not request.gone:
                together = [*self._running, *fresh, request]
                widest = max(one.width for one in together)
                most = min(rows_at_once(self._engine.model, widest), self._cache_tokens // widest)
                # A row that is alone is answered in any case; its length has been checked.
                if len(together) > max(most, 1):
                    break
                fresh.append(request)
                tokens += len(request.row.prompt)
            self._waiting.popleft()
        if fresh:
            # Running before they are read: they fail with the others if reading fails.
            self._running += fresh
            batch.add([request.row for request in fresh])

    def _send(self) -> None:
        """Send each row's newest token, and let the ended ones and those without a client leave."""
        items: list[tuple[_Request, _Item]] = []
        for request in self._running:
            row = request.row
            if row.error is not None:
                items.append((request, row.error))
                continue
            if request.logprobs is not None:
                request.logprobs.entries += row.logprobs[len(request.logprobs.entries) :]
            items.append((request, row.token))
            if row.finish_reason is not None:
                items.append((request, None))
            elif request.gone:
                row.finish_reason = "length"
        self._running = [one for one in self._running if one.row.finish_reason is None and one.row.error is None]
        _deliver(items)

    def _fail(self, error: Exception) -> None:
        requests = [*self._running, *self._waiting]
        self._running, self._waiting = [], deque()
        _deliver([(request, error) for request in requests])


def _deliver(items: Sequence[tuple[_Request, _Item]]) -> None:
    """Put items into the queues of their requests; each event loop is woken once."""

    def put(ours: Sequence[tuple[_Request, _Item]]) -> None:
        for request, item in ours:
            request.arrived.put_nowait(item)

    for loop in {request.loop for request, _ in items}:
        # A loop that has ended has no reader either.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(put, [pair for pair in items if pair[0].loop is loop])
