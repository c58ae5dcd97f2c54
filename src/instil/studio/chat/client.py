"""A client of a model's server on loopback: JSON, and streams of events that end when the asking task is cancelled.

Why own: the server process stays small, and a closed connection is what stops an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

CONNECT_SECONDS = 10.0
LONGEST_LINE = 2**24
"""Bytes of one event, or of one line of a head."""


class EngineError(Exception):
    """The server answered with an error, or not at all; its text is the server's own, or empty.

    Attributes:
        status: HTTP status; 0 if there was no answer, or it broke off.
    """

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


async def is_ready(port: int, key: str) -> bool:
    """Return whether a server answers."""
    try:
        await ask(port, key, "/v1/models")
    except EngineError:
        return False
    return True


async def ask(port: int, key: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the JSON value that a server answers.

    Raises:
        EngineError: If it is an error, or none comes.
    """
    async with _opened(port, key, path, body) as (_, chunks):
        data = b"".join([chunk async for chunk in chunks])
    try:
        return json.loads(data)
    except ValueError:
        raise EngineError(0) from None


async def events(port: int, key: str, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the events of a stream up to ``[DONE]``.

    Raises:
        EngineError: If the server reports an error, or the stream breaks off before its end.
    """
    async with _opened(port, key, path, body) as (_, chunks):
        held = b""
        async for chunk in chunks:
            held += chunk
            *lines, held = held.split(b"\n")
            for line in lines:
                if line == b"data: [DONE]":
                    return
                if not line.startswith(b"data: "):
                    continue
                value = json.loads(line[6:])
                if "error" in value:
                    raise EngineError(500, str(value["error"].get("message", "")))
                yield value
    raise EngineError(0)


@contextlib.asynccontextmanager
async def _opened(
    port: int, key: str, path: str, body: Mapping[str, Any] | None
) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    writer = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LONGEST_LINE)
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        head = [
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Authorization: Bearer {key}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
        ]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        await writer.drain()
        status, headers = await _read_head(reader)
        chunks = _chunks(reader, headers)
        if status != 200:
            raise EngineError(status, _message(b"".join([chunk async for chunk in chunks])))
        yield status, chunks
    except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError, asyncio.LimitOverrunError):
        raise EngineError(0) from None
    finally:
        if writer is not None:
            writer.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    headers = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return status, headers


async def _chunks(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they arrive."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    else:
        yield await reader.readexactly(int(headers["content-length"]))


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
