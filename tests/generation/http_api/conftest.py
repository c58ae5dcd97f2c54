"""Fixtures of the server's tests: the tiny model that answers, and a client of a server with it."""

from __future__ import annotations

import pytest
from tests.tiny_chat import folders

from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings


@pytest.fixture(scope="module")
def engine():
    """The tuned tiny model; its template prints no tools."""
    return Engine.load(folders()["tuned"], LoadSettings(dropped_text="accept"))


@pytest.fixture(scope="module")
def client(engine):
    """A client of a real server."""
    from tests.generation.http_api.served import Served  # it needs the extra serve

    with Served(engine, max_new_tokens=128) as running:
        yield running.client()
