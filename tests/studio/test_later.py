"""Claims about what the studio imports when: little for its first answer, and never what only helper processes need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from instil.studio.navigation import NAVIGATION
from instil.studio.pages.later import FIRST, LATER, router_of

IMPORTED = """
import sys
from pathlib import Path
from instil.studio.server import make_server
from instil.studio.settings import StudioSettings
from instil.studio.workspace import contents, open_workspace
root = open_workspace(Path(sys.argv[1]))
studio = make_server(root, StudioSettings(), token="x", port=1).app.state.studio
from instil.studio.pages.home import home_view
home_view(contents(root), studio.queue.jobs())
{more}
print(*sorted({{name for name in {names!r} if name in sys.modules}}))
"""
ALL_PAGES = """
from instil.studio.pages.later import LATER, router_of
[router_of(name) for names in LATER.values() for name in names]
"""
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "pyarrow",
    "pandas",
    "matplotlib",
    "peft",
    "plotly",
)


def imported(folder, names, *, more=""):
    """Return which of some modules a server has imported when it can give its first answer."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(more=more, names=names), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.slow
def test_the_first_answer_needs_no_schema_and_no_other_page(workspace):
    others = tuple(f"instil.studio.pages.{name}" for names in LATER.values() for name in names)
    assert imported(workspace, ("instil.recipe", "instil.data.reading", "yaml", *HEAVY, *others)) == []


@pytest.mark.slow
def test_no_page_imports_what_only_helper_processes_need(workspace):
    assert imported(workspace, (*HEAVY, "instil.recipe"), more=ALL_PAGES) == ["instil.recipe"]


def test_every_page_is_imported_by_its_address():
    for part, names in LATER.items():
        for name in names:
            paths = [route.path for route in router_of(name).routes]
            assert paths
            assert all(f"{path}/".startswith(f"/{part}/") for path in paths), name
    for name in FIRST:
        assert all(route.path.split("/")[1] not in LATER for route in router_of(name).routes)
    assert {path.strip("/") for _, path in NAVIGATION} <= {*LATER, "", "jobs"}


def test_a_page_answers_the_first_request_for_it(served):
    for part in LATER:
        assert served.get(f"/{part}").status in (200, 303), part
