"""A real kernel that executes a notebook, with every message that it sends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]


class Recorded(NotebookClient):
    """Executes a notebook and keeps the messages of its kernel."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.messages: list[dict[str, Any]] = []

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        self.messages.append({"cell": cell_index, **msg})
        return super().process_message(msg, cell, cell_index)


def execute(cells: list[str], folder: Path) -> Recorded:
    """Execute cells in a kernel of this Python that sees this source; a cell that raises ends it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Recorded(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment(folder))
    return client


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a kernel: no settings of Jupyter or IPython from outside the folder."""
    own = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return (
        os.environ
        | own
        | {"PYTHONPATH": paths, "INSTIL_CACHE": str(folder / "cache"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    )


def html_of(client: Recorded, cell: int) -> str:
    """Return the HTML of the last output of a cell."""
    return str(client.nb.cells[cell].outputs[-1]["data"]["text/html"])
