"""Rows as bytes, and the checks that the tests of every source share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from instil.data.sources.rows import parse_row, read_raw_rows
from instil.errors import DataError

ROWS = [{"question": f"q{n}", "answer": "é🌈\u2028\r\n"} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def rows_of(path: Path | str) -> list[tuple[int, Any]]:
    """Read a source: the number and value of every row."""
    return [(place.row, parse_row(raw, place)) for place, raw in read_raw_rows(str(path))]


def error_of(path: Path | str) -> str:
    """Return the error that reading a source raises."""
    with pytest.raises(DataError) as caught:
        rows_of(path)
    return str(caught.value)


def check_refusal(path: Path, data: bytes, error: str) -> None:
    """Check that a file of these bytes is refused with its path and this error."""
    path.write_bytes(data)
    message = error_of(path)
    assert message.startswith(str(path))
    assert error in message


def zst(data: bytes) -> bytes:
    """Compress with Zstandard."""
    return zstandard.ZstdCompressor().compress(data)
