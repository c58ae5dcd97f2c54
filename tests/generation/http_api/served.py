"""A real server in a thread of the test's own process."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")

from instil.generation.http_api.addresses import listen  # noqa: E402
from instil.generation.http_api.server import make_server  # noqa: E402
from instil.generation.http_api.settings import ServeSettings  # noqa: E402


class Served:
    """A server in a thread of its own."""

    def __init__(self, engine, **settings):
        self.settings = ServeSettings(port=0, **({"served_name": "tiny"} | settings))
        self.socket = listen(self.settings.host, self.settings.port)
        self.server = make_server(engine, self.settings)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    @property
    def service(self):
        return self.server.app.state.service

    def client(self, **given):
        return openai.OpenAI(base_url=f"{self.url}/v1", max_retries=0, timeout=60, **({"api_key": "none"} | given))

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(timeout=20)
        self.socket.close()
        assert not self.thread.is_alive()

    def wait_until_idle(self, seconds=10):
        end = time.monotonic() + seconds
        while self.service._num_in_progress:
            assert time.monotonic() < end, "a request is still in work"
            time.sleep(0.02)
