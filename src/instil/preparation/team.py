"""Processes that prepare one store together: each works on its own chunks, the first writes.

Between `preparation` and the processes of a run, which it knows only as a `Team`. Chunks are dealt out in turn, so the store has
the bytes that one process would write. Questionable on purpose: results are handed over round by round, a chunk from each process,
so that memory does not depend on the data, and a row or a full disk that stops one process stops all of them, with the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from instil.errors import InstilError
from instil.preparation.chunks import Chunk
from instil.preparation.encode_rows import Done, Encoder, Work
from instil.preparation.workers import map_chunks

T = TypeVar("T")


class Team(Protocol):
    """The processes that prepare together, as each of them sees it."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def tell(self, value: Any) -> Any:
        """Give the first process's value to all, however long it takes to come; the others' is ignored."""

    def collect(self, value: Any) -> list[Any]:
        """Give every process's value to the first, in order; the others get an empty list."""


class Alone:
    """A team of one."""

    rank = 0
    size = 1

    def tell(self, value: Any) -> Any:
        """Give the value back."""
        return value

    def collect(self, value: Any) -> list[Any]:
        """Give the value in a list."""
        return [value]


def by_the_first(team: Team, work: Callable[[], T]) -> T:
    """Have the first process do something for all, and give what came out to each.

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


def map_shared(
    chunks: Iterable[Chunk],
    encoder: Encoder,
    work: Work,
    *,
    workers: int,
    team: Team,
    take: Callable[[Sequence[Done]], None],
) -> None:
    """Do the work on every chunk, each process on its own, and have the first take the results, round by round.

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
    mine = map_chunks(islice(chunks, team.rank, None, team.size), encoder, work, workers=workers)
    while True:
        results = team.collect(_next(mine))
        if not by_the_first(team, partial(_taken, results, take)):
            return


def _taken(results: Sequence[Done | InstilError | None], take: Callable[[Sequence[Done]], None]) -> bool:
    """Hand over a round's results, and tell whether there were any."""
    for result in results:
        if isinstance(result, InstilError):
            raise result
    done = [result for result in results if isinstance(result, Done)]
    if done:
        take(done)
    return bool(done)


def _next(results: Iterator[Done]) -> Done | InstilError | None:
    try:
        return next(results, None)
    except InstilError as error:
        return error
