"""The log of a job: its end, and what came since."""

from __future__ import annotations

from pathlib import Path

LOG_BYTES = 64 * 1024
"""The end of a log that a page shows; the whole log is a link."""


def log_end(path: Path, most: int = LOG_BYTES) -> tuple[str, int, bool]:
    """Return the end of a log.

    Returns:
        Its text, the number of bytes up to its end, and whether something stands before it.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = file.seek(max(0, size - most))
            data = file.read(size - start)
    except FileNotFoundError:
        return "", 0, False
    if start:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace"), size, start > 0


def read_from(path: Path, offset: int) -> bytes:
    """Return whole lines of a file from a byte on; a line that is being written comes when it is complete."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(LOG_BYTES)
    except FileNotFoundError:
        return b""
    whole = data[: data.rfind(b"\n") + 1]
    return whole or (data if len(data) == LOG_BYTES else b"")
