"""Encode all chunks on a Ray cluster, and hand over the results in order.

Each chunk is one Ray task that may be tried any number of times, so a node that dies changes nothing. A task writes a
shard, and this process reads the shards in the order of the chunks, so bytes, ledger and the first error are those of
one process. A process that is killed finds its shards when it starts again.

Why not Ray Data: it keeps no order by default, needs two to five times the memory and wraps errors twice; see the notes.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from instil.errors import DataError, InstilError, first_line_of
from instil.preparation.chunks import Chunk, Input, RowsRead, cut_source
from instil.preparation.cluster.pieces import Piece
from instil.preparation.cluster.shards import Shards
from instil.preparation.cluster.tasks import Job, Settings, encode_to_shard
from instil.preparation.encode_rows import EncodedChunk, Encoder, Work
from instil.preparation.workers import with_error_last
from instil.ray_cluster import Cluster

FEWEST_ROWS = 10_000
"""Number of rows below which starting Ray takes longer than the work."""
_PIECES_A_PROCESSOR, _CHUNKS_A_PROCESSOR = 64, 4
"""Tasks under way for each processor. Rows are held in memory until they are encoded; a piece is a few numbers."""
_TASKS_END_WITHIN = 30.0
"""Longest time, in seconds, that stopped tasks are waited for: a node that is gone may never say that one has ended."""


class ClusterFailedError(DataError):
    """The cluster failed, and not the data: what is encoded is of use for the next try."""


def jobs_of(inputs: Sequence[Input], pieces: Sequence[tuple[Piece, ...] | str]) -> Iterator[Job]:
    """Yield the chunks of all sources in order.

    Args:
        inputs: The sources.
        pieces: For each source its pieces, or the reason why its rows are read here.
    """
    for number, (source, cut) in enumerate(zip(inputs, pieces, strict=True)):
        yield from cut_source(number, source) if isinstance(cut, str) else cut


def digest_of(pieces: Sequence[tuple[Piece, ...] | str]) -> str:
    """Return a digest of how the sources are cut: shards of another cut are of no use.

    Why: the store's key covers the content of the files. A file that changed after it was hashed is cut anew.
    """
    content = hashlib.blake2b(digest_size=16)
    for cut in pieces:
        content.update(repr(cut if isinstance(cut, str) else "").encode())
        for piece in () if isinstance(cut, str) else cut:
            content.update(repr([(span.name, span.offset, span.size, span.checksum) for span in piece.spans]).encode())
    return content.hexdigest()


def encode_on_ray(
    jobs: Iterable[Job],
    encoder: Encoder,
    work: Work,
    *,
    cluster: Cluster,
    shards: Shards,
    rows: RowsRead,
    take: Callable[[Sequence[EncodedChunk]], None],
) -> int:
    """Encode every chunk that has no shard yet, pass all results on in order, and return the number of rows.

    Args:
        jobs: All chunks, in order.
        encoder: The chat tokenizer.
        work: Settings.
        cluster: The cluster.
        shards: The folder of the shards.
        rows: The bar.
        take: Called with each result.

    Raises:
        InstilError: The first error in the order of the chunks. Later chunks are not waited for.
    """
    tasks = _Tasks(cluster, encoder, work, shards)
    waiting: deque[tuple[int, Job | InstilError, Any]] = deque()

    num_rows = 0

    def take_first() -> None:
        nonlocal num_rows
        number, job, task = waiting[0]
        encoded = tasks.result(number, job, task)
        waiting.popleft()
        take([encoded])
        num_rows += len(encoded.chunk.places)
        rows.count(len(encoded.chunk.places), _size_of(job, rows))

    try:
        for number, job in enumerate(with_error_last(jobs)):
            waiting.append((number, job, tasks.start(number, job)))
            limit = _PIECES_A_PROCESSOR if isinstance(job, Piece) else _CHUNKS_A_PROCESSOR
            while len(waiting) > limit * cluster.num_cpus:
                take_first()
        while waiting:
            take_first()
    finally:
        end_tasks(cluster.ray, [task for _, _, task in waiting if task is not None])
    return num_rows


def end_tasks(ray: Any, tasks: Sequence[Any]) -> None:
    """Stop tasks whose results nobody waits for, and wait until they have ended.

    Why wait: a task that is writing its shard would put it into the folder while, or after, the folder is removed.
    """
    for task in tasks:
        with contextlib.suppress(Exception):  # the cluster may be gone; the first error is the one to report
            ray.cancel(task)
    if tasks:
        with contextlib.suppress(Exception):
            ray.wait(list(tasks), num_returns=len(tasks), timeout=_TASKS_END_WITHIN, fetch_local=False)


def _size_of(job: Job | InstilError, rows: RowsRead) -> float:
    if isinstance(job, Chunk):
        return rows.size_of(job)
    return float(job.size) if isinstance(job, Piece) else 0.0


class _Tasks:
    """The tasks of one preparation."""

    def __init__(self, cluster: Cluster, encoder: Encoder, work: Work, shards: Shards) -> None:
        self._ray, self._shards = cluster.ray, shards
        self._remote = self._ray.remote(num_cpus=1, max_retries=-1)(encode_to_shard)
        self._settings = Settings(secrets.token_hex(8))
        self._pickled = self._ray.put(pickle.dumps((encoder, work)))

    def start(self, number: int, job: Job | InstilError) -> Any:
        """Start a task; None if its shard is there, or the job is an error of reading."""
        path = self._shards.path(number)
        if isinstance(job, InstilError) or path.exists():
            return None
        return self._remote.remote(job, str(path), self._settings, self._pickled)

    def result(self, number: int, job: Job | InstilError, task: Any) -> EncodedChunk:
        """Wait for a chunk and return its result.

        Raises:
            InstilError: As it was raised on the node; or an error of reading.
        """
        if isinstance(job, InstilError):
            raise job
        for _ in range(2):
            if task is not None:
                self._wait(task)
            encoded = self._shards.read(number)
            if encoded is not None:
                return encoded
            self._shards.path(number).unlink(missing_ok=True)  # damaged by a disk; once more
            task = self.start(number, job)
        raise DataError(
            f"{self._shards.path(number)}: damaged twice in a row. Expected what was written. Check the disk of "
            "data.store, then start again."
        )

    def _wait(self, task: Any) -> None:
        try:
            self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, InstilError):
                raise cause from None
            if "failed to import" in str(cause):
                raise DataError(
                    f"data.cluster: a node cannot import instil ({first_line_of(cause)}). Expected the same environment "
                    "on every node. Install instil there."
                ) from None
            raise
        except self._ray.exceptions.RayError as error:
            raise ClusterFailedError(
                f"data.cluster: the cluster failed ({first_line_of(error)}). Expected it to run to the end. Start "
                "again: what is encoded is kept."
            ) from None
