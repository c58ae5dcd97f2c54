"""The folder of a job: what its runner reads, and what it leaves behind for a studio that starts later.

=================  =====================================================================================
``job.json``       the command and its working folder, written before the runner starts
``claim.json``     the runner; only one can write it, so a job runs once even if two runners were started
``process.json``   the process of the command
``status.json``    its exit status and the time, when it has ended
``log.txt``        all that it printed
=================  =====================================================================================
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.files import atomic_file, write_json_atomic
from instil.studio.jobs.processes import Process


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one job.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def log(self) -> Path:
        """All that the command printed."""
        return self.path / "log.txt"

    @property
    def command(self) -> tuple[list[str], str]:
        """The words behind ``instil``, and the working folder."""
        value = json.loads((self.path / "job.json").read_text(encoding="utf-8"))
        return value["argv"], value["folder"]

    def write_command(self, argv: list[str], folder: Path) -> None:
        """Make the folder and write the command into it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json_atomic(self.path / "job.json", {"argv": argv, "folder": str(folder)})

    @property
    def runner(self) -> Process | None:
        """The runner that has claimed the job, or None."""
        return self._process("claim.json")

    def claim(self, runner: Process) -> bool:
        """Claim the job for a runner; return False if another one has."""
        aside = self.path / f"claim-{runner.pid}.json"
        with atomic_file(aside) as file:
            file.write(json.dumps({"pid": runner.pid, "birth": runner.birth}).encode())
        try:
            os.link(aside, self.path / "claim.json")  # whole and exclusive, which no open mode is
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        return True

    @property
    def process(self) -> Process | None:
        """The process of the command, or None if it has not started."""
        return self._process("process.json")

    def write_process(self, process: Process) -> None:
        """Record the process of the command."""
        write_json_atomic(self.path / "process.json", {"pid": process.pid, "birth": process.birth})

    @property
    def status(self) -> tuple[int, float] | None:
        """The exit status, negative for a signal, and the time; or None."""
        value = self._read("status.json")
        return None if value is None else (value["exit_code"], value["ended"])

    def write_status(self, exit_code: int, ended: float) -> None:
        """Record that the command has ended."""
        write_json_atomic(self.path / "status.json", {"exit_code": exit_code, "ended": ended})

    def _process(self, name: str) -> Process | None:
        value = self._read(name)
        return None if value is None else Process(value["pid"], value["birth"])

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            value: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return value
