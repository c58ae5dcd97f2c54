"""Runs the work on chunks, here or in several processes; results come in the order of the chunks.

Processes are started afresh (spawn), each with one thread, and are given the encoder once. Questionable on purpose: only a
few chunks are under way at a time, so memory does not depend on the data.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from instil.errors import DataError, InstilError
from instil.preparation.chunks import Chunk
from instil.preparation.encode_rows import Done, Encoder, ReadRows, Work, encode_rows, work_on
from instil.preparation.threads import tokenizer_has_threads

_ONE_THREAD = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_state: dict[str, Any] = {}


def map_chunks(chunks: Iterable[Chunk], encoder: Encoder, work: Work, *, workers: int) -> Iterator[Done]:
    """Do the work on every chunk, in order.

    Args:
        chunks: The chunks.
        encoder: The chat tokenizer.
        work: Settings.
        workers: Processes; 1 is this one, 0 one a core.

    Raises:
        InstilError: What a chunk raised, or the reading of chunks behind all that were read; chunks after it are not waited for.
        DataError: If a process was killed, for example for want of memory.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from _map_here(iter(chunks), encoder, work)
        return
    context = multiprocessing.get_context("spawn")
    given = (pickle.dumps(encoder), work)
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=given)
    waiting: deque[Future[Done]] = deque()
    try:
        for chunk in _ending_in_its_error(chunks):
            waiting.append(_refused(chunk) if isinstance(chunk, InstilError) else _submitted(executor, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a preparation process was killed; expected all to finish; use fewer data.workers if memory is short"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _submitted(executor: ProcessPoolExecutor, chunk: Chunk) -> Future[Done]:
    """Hand a chunk over. A process that is started for it never sees Ctrl-C, which a terminal sends to all: it ends with this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(_work, chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending_in_its_error(chunks: Iterable[Chunk]) -> Iterator[Chunk | InstilError]:
    """Give what the reading of chunks raises as their last: chunks under way may hold an earlier row that stops all."""
    try:
        yield from chunks
    except InstilError as error:
        yield error


def _refused(error: InstilError) -> Future[Done]:
    refused: Future[Done] = Future()
    refused.set_exception(error)
    return refused


def _map_here(chunks: Iterator[Chunk], encoder: Encoder, work: Work) -> Iterator[Done]:
    """Do the work in this process; where the tokenizer has threads, the next chunk is read while one is tokenized."""
    if not tokenizer_has_threads():
        for chunk in chunks:
            yield work_on(chunk, encoder, work)
        return
    read = (ReadRows(chunk, work) for chunk in chunks)
    with ThreadPoolExecutor(1, thread_name_prefix="instil-read") as reader:
        ahead = reader.submit(next, read, None)
        while (rows := ahead.result()) is not None:
            ahead = reader.submit(next, read, None)
            yield encode_rows(rows, encoder)


def _start(encoder: bytes, work: Work) -> None:
    """Set a fresh process up: one thread, before the tokenizer's library is loaded."""
    os.environ.update(_ONE_THREAD)
    threading.Thread(target=_end_with_parent, name="instil-parent", daemon=True).start()
    _state["encoder"] = pickle.loads(encoder)
    _state["work"] = work


def _end_with_parent() -> None:
    """Wait for the end of the process that gives the work, and go too: a killed one cannot say that nothing more comes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(chunk: Chunk) -> Done:
    return work_on(chunk, _state["encoder"], _state["work"])
