"""The pages of the reference that are made from the code are what their scripts write, and leave nothing out."""

from __future__ import annotations

from runpy import run_path

import pytest
from tests.docs.pages import ROOT

import instil
from instil.cli.main import VERBS

SCRIPTS = {
    "commands": "make_commands",
    "errors": "make_errors",
    "python-names": "make_python_names",
    "run-folder": "make_run_folder",
}


def text_of(page: str) -> str:
    """Return a page of the reference."""
    return (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", SCRIPTS)
def test_a_page_is_what_its_script_writes(page):
    script = ROOT / "docs" / f"{SCRIPTS[page]}.py"
    assert text_of(page) == run_path(str(script))["page"](), f"run: python docs/{script.name}"


def test_every_command_has_a_section():
    headings = [line for line in text_of("commands").splitlines() if line.startswith("## ")]
    assert len(headings) > len(VERBS)
    for verb, _, _ in VERBS:
        assert any(heading.startswith(f"## instil {verb}") for heading in headings), verb


def test_every_public_name_has_a_section():
    names, errors = text_of("python-names"), text_of("errors")
    for name in set(instil.__all__) - {"__version__"}:
        value = getattr(instil, name)
        is_error = isinstance(value, type) and issubclass(value, Exception)
        assert (f"| `{name}` |" in errors) if is_error else (f"\n### {name}\n" in names), name


def test_every_file_of_a_run_is_explained():
    run_folder = run_path(str(ROOT / "docs" / "make_run_folder.py"))
    paths = run_folder["paths"]()
    assert len(paths) > 10
    assert set(paths) == set(run_folder["WRITTEN"]) == set(run_folder["READ"])
