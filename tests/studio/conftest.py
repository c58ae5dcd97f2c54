from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from tests.studio.browser import browser_context, watch
from tests.studio.served import Served


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def served(workspace):
    with Served(workspace) as studio:
        yield studio


@pytest.fixture
def opened(served):
    """A page of a browser that has entered; afterwards: nothing was logged, asked of others, or refused by the policy."""
    with browser_context() as context:
        page = context.new_page()
        problems = watch(page, served.url)
        page.goto(served.first_url)
        yield page
        assert problems == []
