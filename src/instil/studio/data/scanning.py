"""The process that looks through all rows for a filter, as a stream of its lines, ended with the request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from instil.studio.workers.process import environment

MOST_AT_ONCE = 4
"""Processes that look through files at the same time; others wait."""
_LONGEST_LINE = 1 << 20
_room = asyncio.Semaphore(MOST_AT_ONCE)


async def scanned(folder: Path, question: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yield the lines of `workers.scan`; closing the iterator ends the process.

    Args:
        folder: The workspace.
        question: Settings, filter, start and number of rows.
    """
    async with _room:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "instil.studio.workers.scan",
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LONGEST_LINE,
            env=environment(),
            start_new_session=True,  # Ctrl-C of the studio's terminal is not for it
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            await process.stdin.drain()
            is_whole = False
            while line := await process.stdout.readline():
                is_whole = any(f'"{word}"'.encode() in line[:10] for word in ("end", "more", "error"))
                yield line
            if not is_whole:
                yield json.dumps({"error": "the search has ended before its end. Try again."}).encode() + b"\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
