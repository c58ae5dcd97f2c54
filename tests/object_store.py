"""A real S3 server on the loopback address, and a web server that can fail: what the tests of remote files talk to.

`s3_server` starts moto's server. `Relay` stands in front of it: it counts bytes, answers some requests with an error, and
can hold uploads back.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "loopback", "AWS_SECRET_ACCESS_KEY": "keep-me-secret", "AWS_DEFAULT_REGION": "us-east-1"}
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=loopback/20261130/us-east-1/s3/aws4_request, Signature=0"}
"""What moto takes for the owner of a bucket; it checks no signature."""
_HOP = {"connection", "transfer-encoding", "host", "expect"}


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """Start an S3 server and yield its port."""
    server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Without keys in the environment, moto's own client would look for them on the network.
    for name, value in KEYS.items():
        os.environ.setdefault(name, value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        yield running.get_host_and_port()[1]
    finally:
        running.stop()


@dataclass
class Request:
    """A request that came through a relay."""

    method: str
    path: str
    sent: int
    received: int = 0
    status: int = 0


@dataclass
class Relay:
    """A server on loopback that hands requests on to another one; started by `relay_to`."""

    port: int
    fail: Callable[[Request], int] = lambda request: 0
    """Returns the status to answer with instead of handing a request on, or 0."""
    requests: list[Request] = field(default_factory=list)
    ignore_ranges: bool = False
    """Whether it sends whole files, as a web server without ranges does."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bytes_read(self) -> int:
        """Bytes of all bodies that it answered with."""
        return sum(request.received for request in self.requests)


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """Start a relay in front of the server on a port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, len(body))
            relay.requests.append(request)
            request.status = relay.fail(request)
            if request.status:
                self.send_response(request.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            if relay.ignore_ranges:
                headers.pop("Range", None)
            headers["Host"] = self.headers["Host"]
            if not headers.get("Authorization", "").startswith("AWS4"):  # as a web server whose files are public
                headers |= _SIGNED
            upstream.request(self.command, self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            request.status, request.received = answer.status, len(data)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = hand_on

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    relay = Relay(server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()


def every(number: int, status: int = 503) -> Callable[[Request], int]:
    """Return what fails every request whose number is a multiple of this one."""
    count = iter(range(1, 10**9))
    return lambda request: status if next(count) % number == 0 else 0


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own behind a relay, and the relay."""

    relay: Relay
    name: str

    @property
    def url(self) -> str:
        """Its address as a source has it."""
        return f"s3://{self.name}"

    @property
    def web(self) -> str:
        """The same files on a web server."""
        return f"{self.relay.url}/{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """Write an object and return its address."""
        self._ask("PUT", key, data)
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        """Read an object."""
        return self._ask("GET", key)

    def remove(self) -> None:
        """Remove the bucket with what is in it, as its owner would."""
        for key in self.names():
            self._ask("DELETE", key)
        self._ask("DELETE", "")

    def names(self) -> list[str]:
        """Return the names of all objects."""
        listing = self._ask("GET", "?list-type=2").decode()
        return sorted(part.partition("</Key>")[0] for part in listing.split("<Key>")[1:])

    def _ask(self, method: str, key: str, data: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.server, timeout=60)
        connection.request(method, f"/{self.name}/{key}", body=data, headers=_SIGNED)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status < 300, (answer.status, body)
        return body

    server: int = 0


@contextlib.contextmanager
def bucket_named(name: str, server: int) -> Iterator[Bucket]:
    """Make a bucket behind a relay, and have the environment name the relay and the keys."""
    fsspec = pytest.importorskip("s3fs")
    with relay_to(server) as relay, pytest.MonkeyPatch.context() as patch:
        for variable, value in {**KEYS, "AWS_ENDPOINT_URL": relay.url}.items():
            patch.setenv(variable, value)
        fsspec.S3FileSystem.clear_instance_cache()
        bucket = Bucket(relay, name, server)
        bucket._ask("PUT", "")
        yield bucket
        fsspec.S3FileSystem.clear_instance_cache()
