"""Fixtures of the chat page's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def served(engine):
    """A real server that prints no line a request."""
    from tests.generation.http_api.served import Served  # it needs the extra serve

    with Served(engine, max_new_tokens=64, max_body_mb=0.5, quiet=True) as running:
        yield running
