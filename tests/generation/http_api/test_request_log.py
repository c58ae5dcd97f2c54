"""The line of a request: what it holds, and what it never holds."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

from tests.generation.http_api.served import Served
from tests.tiny_chat import folders

from instil.generation.engine import Engine
from instil.generation.http_api import request_log

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def engine():
    return Engine.load(folders()["tuned"])


@pytest.fixture
def lines(monkeypatch):
    printed: list[str] = []
    monkeypatch.setattr(request_log, "_print", lambda line: printed.append(line[9:]))
    return printed


def ask(served, **settings):
    messages = [{"role": "user", "content": "Capital of Peru?"}]
    client = served.client(api_key="geheim")
    return client.chat.completions.create(model="tiny", messages=messages, **settings)


def wait_for(lines, count, served):
    served.wait_until_idle()
    for _ in range(200):
        if len(lines) >= count:
            return
        served.thread.join(0.02)
    raise AssertionError(lines)


@pytest.mark.slow
def test_each_request_is_one_line_without_its_text_or_its_key(engine, lines):
    with Served(engine, api_key="geheim") as served:
        ask(served)
        assert "".join(piece.choices[0].delta.content or "" for piece in ask(served, stream=True)) == "Lima"
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=20)
        for path in ("/v1/models?api_key=geheim", "/a%0A%1B[31m%E2%80%AEb", "/" + "x" * 500):
            connection.request("GET", path, headers={"Authorization": "Bearer wrong"})
            connection.getresponse().read()
        connection.close()
        wait_for(lines, 5, served)
    patterns = [
        r"POST /v1/chat/completions 200 35\+5 tokens \d+\.\d\d s",
        r"POST /v1/chat/completions 200 35\+5 tokens \d+\.\d\d s",
        r"GET /v1/models 401 \d\.\d\d s",
        r"GET /a%0A%1B\[31m%E2%80%AEb 401 \d\.\d\d s",
        r"GET /x{59}…x+ 401 \d\.\d\d s",
    ]
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert not re.search(r"geheim|wrong|Peru|Lima", " ".join(lines))


@pytest.mark.slow
def test_a_client_that_leaves_is_marked(lines):
    # An untrained model generates until its limit.
    with Served(Engine.load(folders()["base"]), max_new_tokens=450) as served:
        pieces = served.client().completions.create(model="tiny", prompt="x", max_tokens=450, stream=True)
        next(iter(pieces))
        pieces.close()
        wait_for(lines, 1, served)
    found = re.fullmatch(r"POST /v1/completions 200 1\+(\d+) tokens \d+\.\d\d s, client left", lines[0])
    assert found, lines
    assert int(found[1]) < 450


@pytest.mark.slow
def test_quiet_prints_no_line(engine, lines):
    with Served(engine, quiet=True) as served:
        ask(served)
        served.wait_until_idle()
    assert lines == []


@pytest.mark.slow
def test_a_closed_standard_error_fails_no_request(engine, monkeypatch):
    closed = open("/dev/null", "w")  # noqa: SIM115
    closed.close()
    with Served(engine) as served, contextlib.ExitStack() as stack:
        monkeypatch.setattr("sys.stderr", closed)
        stack.callback(monkeypatch.undo)
        assert ask(served).choices[0].message.content == "Lima"


@pytest.mark.slow
def test_a_request_that_is_not_http_prints_no_line_of_its_own(engine, lines):
    with Served(engine) as served:
        with socket.create_connection(served.socket.getsockname()) as raw:
            raw.sendall(b"GET /a\nb HTTP/1.1\r\n\r\n")
            raw.recv(1000)
        assert ask(served).choices[0].message.content == "Lima"
        wait_for(lines, 1, served)
    assert all("\n" not in line and "GET /a\n" not in line for line in lines)
