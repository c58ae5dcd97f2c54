"""Claims about importing packages in another process: whatever an import does, every package has an answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from instil.environment.probe import MACHINE
from instil.environment.probing import ask

MODULES = {
    "loud": "import os\nprint('noise')\nos.write(1, b'more noise')\n",
    "fails": "raise ImportError('libx.so: cannot open')\n",
    "leaves": "raise SystemExit(3)\n",
    "crashes": "import os\nos.abort()\n",
    "ends": "import os\nos._exit(7)\n",
    "hangs": "import time\ntime.sleep(60)\n",
    "wordless": "raise ValueError\n",
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, program in MODULES.items():
        (tmp_path / f"{name}.py").write_text(program)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_every_import_has_an_answer_whatever_it_does():
    began = time.monotonic()
    found = ask(list(MODULES), longest=3.0)
    assert time.monotonic() - began < 50
    assert {name: answer.error for name, answer in found.items()} == {
        "loud": None,
        "fails": "ImportError: libx.so: cannot open",
        "leaves": "SystemExit: 3",
        "crashes": "it ends Python (SIGABRT)",
        "ends": "it ends Python (exit status 7)",
        "hangs": "it takes more than 3 seconds",
        "wordless": "ValueError",
    }


@pytest.mark.usefixtures("packages")
def test_the_machine_is_measured_also_where_another_step_ends_the_process():
    found = ask(["psutil", MACHINE, "crashes", "loud"])
    assert found[MACHINE].error is None
    assert found[MACHINE].result["memory"] > found[MACHINE].result["free_memory"] > 0
    assert found["loud"].error is None


def test_a_file_of_the_working_folder_stands_in_for_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "json.py").write_text("raise ImportError('not the real one')\n")
    monkeypatch.chdir(tmp_path)
    assert ask(["json"])["json"].error is None
