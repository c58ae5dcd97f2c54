"""Claims about ``instil serve``: an address that cannot be used is reported before a model is loaded."""

from __future__ import annotations

import socket

import pytest
from tests.training.command_line import exit_code

from instil.generation.engine import Engine
from instil.generation.http_api import server
from instil.generation.http_api.settings import ServeSettings
from instil.generation.settings import LoadSettings


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--port", "99999"], "no such port"),
        (["--port", "TAKEN"], "cannot listen"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line_and_loads_nothing(words, reason, capsys, monkeypatch):
    monkeypatch.delenv("INSTIL_API_KEY", raising=False)
    monkeypatch.setattr(Engine, "load", lambda *_: pytest.fail("a model was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert exit_code("serve", "demo", *[port if word == "TAKEN" else word for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "\n" not in error


def test_options_reach_the_server_and_the_model(monkeypatch):
    calls = []
    monkeypatch.delenv("INSTIL_API_KEY", raising=False)
    monkeypatch.setattr(Engine, "load", lambda name, loading: calls.append((name, loading)) or "engine")
    monkeypatch.setattr(server, "serve", lambda engine, settings: calls.append((engine, settings)))
    assert exit_code("serve", "demo", "--port", "0", "--max-new-tokens", "7", "--load", "4bit") == 0
    assert calls == [
        ("demo", LoadSettings(load="4bit")),
        ("engine", ServeSettings(port=0, max_new_tokens=7)),
    ]
