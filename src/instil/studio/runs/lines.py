"""Whole lines of a file that grows, a block at a time."""

from __future__ import annotations

from typing import BinaryIO

BLOCK = 1 << 18
"""Bytes that are read at once; who follows a file looks at the clock between two blocks."""


def whole_lines(file: BinaryIO, offset: int) -> bytes:
    """Return the whole lines of the block that begins at a byte; empty where no line has its end yet."""
    file.seek(offset)
    block = file.read(BLOCK)
    if b"\n" not in block and len(block) == BLOCK:  # a line longer than a block
        block += file.readline()
    return block[: block.rfind(b"\n") + 1]
