"""The tasks that fit a file of the workspace, asked of a process and kept while the file stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from instil.studio.studio import Studio
from instil.studio.workers.process import WorkerError, Workers


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The tasks that fit a file.

    Attributes:
        tasks: Their names.
        problem: Why the file cannot be measured on; or empty.
    """

    tasks: tuple[str, ...]
    problem: str = ""


def suggested(studio: Studio, path: str) -> Suggestion:
    """Return the tasks that fit a file.

    Args:
        studio: The workspace.
        path: The file below it.
    """
    status = (studio.root / path).stat()
    try:
        return Suggestion(_ask(studio.workers, path, status.st_mtime_ns, status.st_size))
    except WorkerError as error:
        return Suggestion((), str(error))


@lru_cache(maxsize=64)
def _ask(workers: Workers, path: str, _changed: int, _size: int) -> tuple[str, ...]:
    return tuple(workers.ask_once("instil.studio.ship.suggest", {"path": f"./{path}"}))
