"""Claims about ``instil studio``: what cannot be opened is one line, and nothing is served."""

from __future__ import annotations

import socket

import pytest
from tests.training.command_line import exit_code

from instil.studio import server
from instil.studio.settings import StudioSettings


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((".", "--host", "0.0.0.0"), "Set --key or INSTIL_STUDIO_KEY"),
        ((".", "--host", "0.0.0.0", "--key", "short"), "--key: found 5 characters. Expected at least 16"),
        ((".", "--port", "99999"), "no such port"),
        ((".", "--port", "TAKEN"), "cannot listen"),
        (("nowhere",), "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_opened_is_one_line(words, reason, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("INSTIL_STUDIO_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server, "make_server", lambda *_, **__: pytest.fail("a server was made"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert exit_code("studio", *[port if word == "TAKEN" else word for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "\n" not in error


def test_a_key_of_the_environment_opens_other_addresses_and_is_not_printed(capsys, monkeypatch, tmp_path):
    class Ends:
        started = True

        def run(self, *, sockets):
            assert sockets[0].getsockname()[0] == "0.0.0.0"

    made = []
    monkeypatch.setenv("INSTIL_STUDIO_KEY", "a key of some length")
    monkeypatch.setattr(server, "make_server", lambda root, settings, **given: made.append((settings, given)) or Ends())
    assert exit_code("studio", str(tmp_path), "--host", "0.0.0.0", "--port", "0") == 0
    settings, given = made[0]
    assert settings == StudioSettings(host="0.0.0.0", port=0, key="a key of some length")
    assert given["token"] == "a key of some length"
    out = capsys.readouterr().out
    assert "/?token=KEY" in out
    assert "some length" not in out
