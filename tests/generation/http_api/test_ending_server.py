"""How a real server process ends: its status, its words, and what happens to a request in progress."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import time
from functools import cache, partial

import pytest

pytest.importorskip("uvicorn")

from tests.forks import start_fork
from tests.tiny_chat import folders

from instil.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@cache
def folder():
    """An untrained model, which generates until its limit, with room for an answer that outlasts two signals."""
    made = folders()["base"].with_name("base-of-a-long-context")
    shutil.copytree(folders()["base"], made)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100_000}))
    return made


class Process:
    """`instil serve` as a process of its own."""

    def __init__(self, *options):
        words = ["serve", str(folder()), "--served-name", "base", "--port", "0", "--max-new-tokens", "90000", *options]
        self.process = start_fork(partial(main, words), separate_errors=True)
        end = time.monotonic() + 120
        while not (found := re.search(r"http://(127\.0\.0\.1:\d+)/v1", self._printed())):
            assert time.monotonic() < end, self._printed()
            time.sleep(0.02)
        self.connection = http.client.HTTPConnection(found[1], timeout=60)
        self.is_over = False

    def _printed(self):
        return os.pread(self.process.out.fileno(), 2**20, 0).decode()  # leaves the place where the fork writes next

    def stream(self, tokens):
        """Ask for a long answer, and return the response when its first piece is there."""
        body = json.dumps({"model": "base", "prompt": "x", "stream": True, "max_tokens": tokens})
        self.connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        assert answer.readline().startswith(b"data:")
        return answer

    def wait(self):
        _, err = self.process.communicate(timeout=60)
        self.is_over = True
        return self.process.returncode, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        if not self.is_over:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_answer_in_progress_end_and_exits_with_0(number):
    with Process() as server:
        answer = server.stream(1000)
        server.process.send_signal(number)
        server.process.send_signal(number)  # as a program does that passes on what the terminal sent already
        assert answer.read().rstrip().endswith(b"data: [DONE]")
        status, err = server.wait()
    assert status == 0, err
    assert re.search(r"^ending: 1 request in progress, up to 10 seconds; Ctrl-C again ends at once$", err, re.MULTILINE)
    assert re.search(r"^[\d:]{8} POST /v1/completions 200 1\+1000 tokens \d+\.\d\d s$", err, re.MULTILINE)
    assert err.splitlines()[-1] == "the server has ended"
    assert "error" not in err


def test_a_second_signal_ends_at_once():
    with Process() as server:
        server.stream(90_000)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        start = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        status, err = server.wait()
    assert (status, time.monotonic() - start < 3) == (130, True), err
    assert err.splitlines()[-1] == "ended at once"
    assert "Traceback" not in err
