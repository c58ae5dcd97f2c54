"""Runs a lesson in a real kernel, from top to bottom, with each exercise's stub and then its solution."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from make_notebooks import lessons, read_lesson

ROOT = Path(__file__).resolve().parents[2]
LESSONS = lessons()
CPU_SECONDS = """
import resource
_used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(used.ru_utime + used.ru_stime for used in _used))
"""


@dataclass
class LessonRun:
    """What came out of a lesson.

    Attributes:
        cpu_seconds: CPU time of its kernel and the processes that it started.
        untouched: Name of a check to the name of the error that it ended with on the stub; None if it passed.
        errors: What its kernel wrote to stderr.
    """

    cpu_seconds: float = 0.0
    untouched: dict[str, str | None] = field(default_factory=dict)
    errors: str = ""


def code_cells(lesson: Path) -> list[NotebookNode]:
    return [cell for cell in read_lesson(lesson).cells if cell.cell_type == "code"]


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def run_lesson(lesson: Path, folder: Path) -> LessonRun:
    """Run a lesson's cells in order; a check runs on the stub, then the solution runs, then the check runs again.

    Raises:
        CellExecutionError: If a cell raises, other than a check on a stub.
    """
    notebook = read_lesson(lesson)
    solutions = {
        cell.metadata.name: (number, cell) for number, cell in enumerate(notebook.cells) if has_tag(cell, "solution")
    }
    for name in ("home", "tmp", "cwd", "settings"):
        (folder / name).mkdir()
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        skip_cells_with_tag="never",
        resources={"metadata": {"path": str(folder / "cwd")}},
    )
    run = LessonRun()
    with client.setup_kernel(env=environment(folder)):
        for number, cell in enumerate(notebook.cells):
            if has_tag(cell, "check"):
                run.untouched[cell.metadata.name] = error_of(client, cell, number)
                where, solution = solutions[cell.metadata.name.replace("check", "solution")]
                client.execute_cell(solution, where)
            if not has_tag(cell, "solution"):
                client.execute_cell(cell, number)
        notebook.cells.append(NotebookNode(cell_type="code", source=CPU_SECONDS, metadata={}, outputs=[]))
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    run.cpu_seconds = float(notebook.cells[-1].outputs[0].text)
    run.errors = "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    )
    return run


def error_of(client: NotebookClient, cell: NotebookNode, number: int) -> str | None:
    """Run a cell and return the name of the error that it ends with."""
    try:
        client.execute_cell(cell, number)
    except CellExecutionError as error:
        return str(error.ename)
    return None


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a kernel: no network, no corpus, one thread, and a home and temporary folder of its own."""
    own = {
        name: str(folder / "settings" / name.lower())
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "HF_HOME", "MPLCONFIGDIR")
    }
    kept = {name: value for name, value in os.environ.items() if name != "INSTIL_CORPUS"}
    return (
        kept
        | own
        | {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "INSTIL_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "course")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
    )
