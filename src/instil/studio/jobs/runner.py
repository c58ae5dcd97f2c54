"""Runs one job: ``python -m instil.studio.jobs.runner FOLDER``. It is the parent of the command, and outlives the studio.

Why a process between: only a parent learns how its child ended. The studio may be gone by then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from instil.studio.jobs.folder import JobFolder
from instil.studio.jobs.processes import this_process


def main() -> None:
    """Start the command unless another runner has, wait for it, and write how it ended."""
    folder = JobFolder(Path(sys.argv[1]))
    if os.fork():
        os._exit(0)  # who started it need not wait for it, and leaves no zombie behind
    # Why: the command decides what a signal means. Its runner must be there to see the end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    if not folder.claim(this_process(os.getpid())):
        return
    argv, working_folder = folder.command
    with folder.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "instil", *argv],
            cwd=working_folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        folder.write_process(this_process(child.pid))
        exit_code = child.wait()
    folder.write_status(exit_code, time.time())


if __name__ == "__main__":
    main()
