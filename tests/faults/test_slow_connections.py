"""Clients that never finish a request lose their connection, and others do not notice them.

Each bound alone is tested in tests/generation/http_api/test_connections.py.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

httpx = pytest.importorskip("httpx2")

from tests.generation.http_api.served import Served  # noqa: E402
from tests.tiny_chat import FACTS, folders  # noqa: E402

from instil.generation.engine import Engine  # noqa: E402
from instil.generation.http_api.settings import SERVING  # noqa: E402

SECONDS = 1.5
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
NEVER = [
    *[HEAD + b"Content-Length: 500\r\n\r\n{"] * 3, HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a"',
    *[b"POST /v1"] * 2, HEAD, b"",
]  # fmt: skip
"""What a client sends before it falls silent."""


def is_closed(connection):
    """Read what has come, and return whether the server has closed the connection."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def test_a_request_has_30_seconds_and_connections_are_bounded_by_default():
    assert (SERVING.max_transfer_seconds, SERVING.max_connections) == (30, 512)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_32_clients_are_answered_beside_250_that_never_finish():
    engine = Engine.load(folders()["tuned"])
    with Served(engine, max_transfer_seconds=SECONDS, max_connections=400) as served, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", served.socket.getsockname()[1])
        opened = time.monotonic()
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(250)]
        for number, connection in enumerate(slow):
            connection.sendall(NEVER[number % len(NEVER)])

        def is_right(number):
            question, answer = FACTS[number % 4]
            body = {"model": "tiny", "messages": [{"role": "user", "content": question}]}
            given = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)
            return given.json()["choices"][0]["message"]["content"] == answer

        with ThreadPoolExecutor(32) as pool:
            answers = pool.map(is_right, range(32))
            foreign = httpx.get(f"{served.url}/v1/models", headers={"host": "evil.example"}, timeout=60)
            assert all(answers)
        assert foreign.status_code == 403
        while not all(map(is_closed, slow)):
            assert time.monotonic() - opened < 120
            time.sleep(0.1)
        assert time.monotonic() - opened > SECONDS * 0.9
        assert is_right(0)
        assert json.loads(httpx.get(f"{served.url}/health").text) == {"status": "ok"}
