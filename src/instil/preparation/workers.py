"""Encode chunks in this process, in worker processes, and in the several processes of a run.

`prepare` calls `map_team_chunks`. Each process of a run encodes its share of the chunks, with worker processes of its
own where `data.workers` requests them. The first process writes the store. Results come in the order of the chunks, so
the store has the same bytes for any number of processes.

Why: few chunks are under way at a time, and results are handed over one chunk per process, so memory does not grow with
the data.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from instil.environment.machine import usable_cores
from instil.errors import DataError, InstilError
from instil.preparation.chunks import Chunk
from instil.preparation.encode_rows import EncodedChunk, Encoder, Work, encode_chunk, encode_rows, read_rows

T = TypeVar("T")
ONE_THREAD = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Variables of a process that is one of many on its machine."""
_OFF = ("false", "0", "off", "no", "f", "n")
_state: dict[str, Any] = {}


class Team(Protocol):
    """The processes of a run that prepare one store together, as each of them sees it."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def tell(self, value: Any) -> Any:
        """Return the first process's value on every process, however long it takes; the others' values are ignored."""

    def collect(self, value: Any) -> list[Any]:
        """Return every process's value, in order, on the first process, and an empty list on the others."""


class Alone:
    """A team of one process."""

    rank = 0
    size = 1

    def tell(self, value: Any) -> Any:
        """Return the value."""
        return value

    def collect(self, value: Any) -> list[Any]:
        """Return the value in a list."""
        return [value]


def run_on_first(team: Team, work: Callable[[], T]) -> T:
    """Run a function on the first process, and return its result on every process.

    Raises:
        InstilError: What it raised, on every process.
    """
    outcome: Any = None
    if team.rank == 0:
        try:
            outcome = work()
        except InstilError as error:
            outcome = error
    outcome = team.tell(outcome)
    if isinstance(outcome, InstilError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def map_team_chunks(
    chunks: Iterable[Chunk],
    encoder: Encoder,
    work: Work,
    *,
    workers: int,
    team: Team,
    take: Callable[[Sequence[EncodedChunk]], None],
) -> None:
    """Encode every chunk, each process its share, and pass the results to the first process round by round.

    Args:
        chunks: All chunks, on every process.
        encoder: The chat tokenizer.
        work: Settings.
        workers: Processes that this one starts for its share (see `map_chunks`).
        team: The processes.
        take: Called on the first process with the results of a round, in the order of the chunks.

    Raises:
        InstilError: The first error in the order of the chunks, or what `take` raised, on every process.
    """
    share = map_chunks(islice(chunks, team.rank, None, team.size), encoder, work, workers=workers)
    while True:
        results = team.collect(_next_or_error(share))
        if not run_on_first(team, partial(_take_round, results, take)):
            return


def _take_round(
    results: Sequence[EncodedChunk | InstilError | None], take: Callable[[Sequence[EncodedChunk]], None]
) -> bool:
    """Pass on the results of a round, and return whether there were any."""
    for result in results:
        if isinstance(result, InstilError):
            raise result
    encoded = [result for result in results if isinstance(result, EncodedChunk)]
    if encoded:
        take(encoded)
    return bool(encoded)


def _next_or_error(results: Iterator[EncodedChunk]) -> EncodedChunk | InstilError | None:
    try:
        return next(results, None)
    except InstilError as error:
        return error


def map_chunks(chunks: Iterable[Chunk], encoder: Encoder, work: Work, *, workers: int) -> Iterator[EncodedChunk]:
    """Encode every chunk, in order.

    Args:
        chunks: The chunks.
        encoder: The chat tokenizer.
        work: Settings.
        workers: Number of processes. 1 is this process alone, 0 is one per core.

    Raises:
        InstilError: The first error in the order of the chunks. Later chunks are not waited for.
        DataError: If a process was killed, for example because memory ran out.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from _map_here(iter(chunks), encoder, work)
        return
    context = multiprocessing.get_context("spawn")
    settings = (pickle.dumps(encoder), work)
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=settings)
    waiting: deque[Future[EncodedChunk]] = deque()
    try:
        for chunk in with_error_last(chunks):
            waiting.append(_failed(chunk) if isinstance(chunk, InstilError) else _submit(executor, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "data.workers: a worker process was killed. Expected all of them to finish. "
            "Set fewer data.workers if memory is short."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _submit(executor: ProcessPoolExecutor, chunk: Chunk) -> Future[EncodedChunk]:
    """Submit a chunk; a process that this starts does not receive Ctrl-C.

    A terminal sends Ctrl-C to every process. Workers ignore it and end together with this process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(_encode_in_worker, chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def with_error_last(chunks: Iterable[T]) -> Iterator[T | InstilError]:
    """Yield the chunks, and an error of reading them as the last item.

    Chunks under way may hold an earlier row with an error, which must be reported first.
    """
    try:
        yield from chunks
    except InstilError as error:
        yield error


def _failed(error: InstilError) -> Future[EncodedChunk]:
    future: Future[EncodedChunk] = Future()
    future.set_exception(error)
    return future


def _map_here(chunks: Iterator[Chunk], encoder: Encoder, work: Work) -> Iterator[EncodedChunk]:
    """Encode in this process. Where the tokenizer has threads, one chunk is tokenized while the next is read."""
    if not tokenizer_has_threads():
        for chunk in chunks:
            yield encode_chunk(chunk, encoder, work)
        return
    read = (read_rows(chunk, work) for chunk in chunks)
    with ThreadPoolExecutor(1, thread_name_prefix="instil-read") as reader:
        ahead = reader.submit(next, read, None)
        while (rows := ahead.result()) is not None:
            ahead = reader.submit(next, read, None)
            yield encode_rows(rows, encoder)


def tokenizer_has_threads() -> bool:
    """Return True if the tokenizers library spreads a batch over several threads.

    It does unless ``TOKENIZERS_PARALLELISM`` is off, ``RAYON_NUM_THREADS`` is 1, or the process may use one core only.
    """
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in _OFF or os.environ.get("RAYON_NUM_THREADS") == "1":
        return False
    return usable_cores() > 1


def _start_worker(encoder: bytes, work: Work) -> None:
    """Set up a new worker process; it gets one thread, before the tokenizers library is loaded."""
    os.environ.update(ONE_THREAD)
    threading.Thread(target=_end_with_parent, name="instil-parent", daemon=True).start()
    _state["encoder"] = pickle.loads(encoder)
    _state["work"] = work


def _end_with_parent() -> None:
    """Wait until the parent process ends, then end this one. A killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_in_worker(chunk: Chunk) -> EncodedChunk:
    return encode_chunk(chunk, _state["encoder"], _state["work"])
