"""A real studio in a thread of the test's own process, and requests to it as a browser sends them."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from instil.generation.http_api.addresses import listen, url_of
from instil.studio.server import make_server
from instil.studio.settings import StudioSettings
from instil.studio.workspace import open_workspace

TOKEN = "the-token-of-the-tests"


@dataclass(frozen=True)
class Answer:
    """An answer of the studio."""

    status: int
    headers: dict[str, str]
    text: str


class Served:
    """A studio; `get` and `post` have its cookie and its origin."""

    def __init__(self, folder, **settings):
        self.settings = StudioSettings(port=0, **settings)
        self.root = open_workspace(folder)
        self.socket = listen(self.settings.host, 0)
        self.port = self.socket.getsockname()[1]
        self.url = url_of(self.socket)
        self.first_url = f"{self.url}/?token={TOKEN}"
        self.server = make_server(self.root, self.settings, token=TOKEN, port=self.port)
        self.queue = self.server.app.state.studio.queue
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.02)
        self.cookie = self.request("GET", f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(timeout=20)
        self.socket.close()
        for job in self.queue.jobs():  # jobs outlive a studio; those of a test end with it
            folder = self.queue.folder(job.number)
            if job.state == "running":  # its process may be about to start
                wait_until(lambda: folder.process is not None or folder.status is not None, seconds=60)
            process = folder.process
            if process is not None and process.is_alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        assert not self.thread.is_alive()

    def request(self, method, path, *, headers=None, body=None):
        """Send a request with no header but the named ones and Host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            headers = {"Host": f"127.0.0.1:{self.port}"} | (headers or {})
            if body is not None:
                headers |= {"Content-Length": str(len(body)), "Content-Type": "application/x-www-form-urlencoded"}
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers={"Cookie": self.cookie} | headers)

    def post(self, path, **fields):
        headers = {"Cookie": self.cookie, "Origin": self.url}
        return self.request("POST", path, headers=headers, body=urlencode(fields).encode())


def wait_until(condition, *, seconds=180.0):
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
    return value
