"""Bounds of connections, before a real uvicorn with an application of three lines."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn")

from instil.generation.http_api.connections import bounded_protocol  # noqa: E402

SECONDS = 0.5
LONG = 60
"""Seconds in which also a machine that is busy elsewhere has done what is to be done."""
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"x" * 400_000


async def application(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body = LARGE if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module", params=["h11", "httptools"])
def port(request):
    pytest.importorskip(request.param)
    from uvicorn.protocols.http import auto

    implementations = {
        "h11": "uvicorn.protocols.http.h11_impl.H11Protocol",
        "httptools": "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol",
    }
    chosen = uvicorn.importer.import_from_string(":".join(implementations[request.param].rsplit(".", 1)))
    with pytest.MonkeyPatch.context() as patch, socket.socket() as listener:
        patch.setattr(auto, "AutoHTTPProtocol", chosen)
        protocol = bounded_protocol(max_connections=5, max_transfer_seconds=SECONDS)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            application, http=protocol, ws="none", lifespan="off", log_level="critical", timeout_keep_alive=30
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


@contextlib.contextmanager
def connected(port, data=b""):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(LONG)
        connection.sendall(data)
        yield connection


def all_of(connection):
    """Return what comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def is_answered(connection):
    """Return whether an answer comes, complete."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while not received.endswith(b"ok"):
            if not (piece := connection.recv(4096)):
                return False
            received += piece
    return received.endswith(b"ok")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "data"),
    [
        (b"", b""), (b"", b"POST /v1"), (b"", HEAD), (b"", HEAD + b"Content-Length: 500\r\n\r\n{"), (GET, HEAD),
        (b"", HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a"'), (GET, HEAD + b"Content-Length: 9\r\n\r\n"),
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "a second head", "half a chunk", "a second body"],
)  # fmt: skip
def test_a_request_that_never_ends_is_told_and_closed_in_time(port, before, data):
    with connected(port, before) as connection:
        assert not before or is_answered(connection)
        begun = time.monotonic()
        connection.sendall(data)
        answer = all_of(connection)
    assert SECONDS * 0.8 < time.monotonic() - begun < LONG
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"has not arrived within 0.5 seconds" in answer


@pytest.mark.slow
def test_a_drop_now_and_then_buys_no_time(port):
    begun = time.monotonic()
    with connected(port, HEAD) as connection, contextlib.suppress(OSError):
        while time.monotonic() - begun < LONG:
            connection.sendall(b"X: y\r\n")
            time.sleep(SECONDS / 5)
    assert time.monotonic() - begun < LONG


def requests_in_time(port):
    """Send two requests with a pause before each; return how many are answered, and whether the machine kept time."""
    answered, in_time = 0, True
    with connected(port) as connection:
        for _ in range(2):
            begun = time.monotonic()
            time.sleep(SECONDS * 0.6)
            with contextlib.suppress(ConnectionError):
                connection.sendall(GET)
            answered += is_answered(connection)
            in_time &= time.monotonic() - begun < SECONDS * 0.9
    return answered, in_time


@pytest.mark.slow
def test_a_kept_connection_has_new_time_for_each_request(port):
    for _ in range(20):
        answered, in_time = requests_in_time(port)
        if in_time:
            break
    assert answered == 2


def test_a_connection_beyond_the_limit_gets_503_and_its_place_is_free_again(port):
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            assert is_answered(stack.enter_context(connected(port, GET)))
        with connected(port, GET) as further:
            answer = all_of(further)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"5 connections are open" in answer
    end = time.monotonic() + LONG
    while True:
        with connected(port, GET) as again:
            if is_answered(again):
                break
        assert time.monotonic() < end


@pytest.mark.slow
def test_a_reader_that_never_reads_loses_its_connection_and_a_slow_one_does_not(port):
    request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        unread.connect(("127.0.0.1", port))
        unread.sendall(request * 40)
        time.sleep(SECONDS * 3)
        # A closed connection has nothing but what its buffers hold, or not even that.
        unread.settimeout(LONG)
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert len(all_of(unread)) < 40 * len(LARGE)
    with connected(port, request) as slow:
        received = 0
        while received < len(LARGE):
            received += len(slow.recv(65536))
            time.sleep(SECONDS / 10)
