"""The queue: jobs in a SQLite file of the workspace, started one after the other, found again after a restart.

Every change of a state is one transaction. So two studios on one workspace start a job once, and a studio that is
killed between two lines leaves a state that the next `tick` understands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from instil.errors import ServeError
from instil.files import remove_folder
from instil.studio.jobs.engine_key import engine_key
from instil.studio.jobs.folder import JobFolder
from instil.studio.jobs.processes import Process, this_process
from instil.studio.jobs.records import Job, Lane, check_argv
from instil.studio.settings import environment_without_key
from instil.studio.workspace import OWN

AT_ONCE: dict[Lane, int] = {"device": 1, "beside": 3, "engine": 2}
"""Running jobs of each lane."""
CLAIM_SECONDS = 60.0
"""How long a started runner may take until it has claimed its job; Python may start slowly on a busy machine."""
START_SECONDS = 10.0
"""How long a stop waits for the process of a job that is being started."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    argv TEXT NOT NULL, title TEXT NOT NULL, lane TEXT NOT NULL, run TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL, exit_code INTEGER,
    stops INTEGER NOT NULL DEFAULT 0, starter_pid INTEGER, starter_birth TEXT
)
"""
_COLUMNS = "number, argv, title, lane, run, state, created, started, ended, exit_code, stops"
_SEPARATOR = "\0"
"""Between the words of a command in the file; no word of a command line can contain it."""


class Queue:
    """The jobs of a workspace. It holds no state of a job; any number of objects may share the file.

    Args:
        root: The workspace as `open_workspace` returns it.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / OWN
        with self._transaction() as database:
            database.execute(_SCHEMA)

    def add(self, argv: Sequence[str], *, title: str = "", lane: Lane = "device", run: str = "") -> int:
        """Put a command into the queue; `tick` starts it.

        Args:
            argv: Words behind ``instil``; paths are relative to the workspace.
            title: What people call it. Default: the command.
            lane: Whether it waits for the device.
            run: The run folder that it writes, below the workspace.

        Returns:
            Its number.

        Raises:
            ServeError: If a page may not start it.
        """
        check_argv(argv)
        if any(_SEPARATOR in word for word in argv):
            raise ServeError("a word of the command contains a zero byte. Expected text. Correct the field.")
        with self._transaction() as database:
            number = database.execute(
                "INSERT INTO jobs (argv, title, lane, run, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                (_SEPARATOR.join(argv), title or f"instil {' '.join(argv)}", lane, run, time.time()),
            ).lastrowid
            assert number is not None
            self.folder(number).write_command(list(argv), self._root)
        return number

    def jobs(self) -> list[Job]:
        """Return all jobs, the newest first."""
        with self._transaction("DEFERRED") as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY number DESC").fetchall()
        return [_job(row) for row in rows]

    def job(self, number: int) -> Job | None:
        """Return a job, or None."""
        with self._transaction("DEFERRED") as database:
            row = database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE number = ?", (number,)).fetchone()
        return None if row is None else _job(row)

    def folder(self, number: int) -> JobFolder:
        """Return the folder of a job."""
        return JobFolder(self._folder / "jobs" / f"{number:06d}")

    def cancel(self, number: int) -> bool:
        """Take a queued job out of the queue; return False if it is not queued any more."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = 'stopped', ended = ? WHERE number = ? AND state = 'queued'",
                (time.time(), number),
            ).rowcount
        return changed == 1

    def stop(self, number: int, *, level: int = 1) -> bool:
        """Ask a running job to stop.

        `train` answers SIGTERM by finishing its step and saving, and a second one by stopping at once.

        Args:
            number: The job.
            level: 1 sends SIGTERM, 2 sends it again, 3 kills. Each is sent once, in this order, whoever asks how often.

        Returns:
            Whether the signal was sent.
        """
        process = self._started(number)
        if process is None or not process.is_alive:  # it has ended, or could not start
            return False
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET stops = ? WHERE number = ? AND state = 'running' AND stops = ?",
                (level, number, level - 1),
            ).rowcount
            if changed != 1:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL if level >= 3 else signal.SIGTERM)
        return True

    def _started(self, number: int) -> Process | None:
        """Return the process of a running job, and wait for the one that is being started: a signal now would reach nobody."""
        end = time.monotonic() + START_SECONDS
        while (process := self.folder(number).process) is None and time.monotonic() < end:
            job = self.job(number)
            if job is None or job.state != "running":
                return None
            time.sleep(0.05)
        return process

    def remove(self, number: int) -> bool:
        """Remove a job that has ended, and its log; return False if it has not ended."""
        with self._transaction() as database:
            changed = database.execute(
                "DELETE FROM jobs WHERE number = ? AND state IN ('done', 'failed', 'stopped')", (number,)
            ).rowcount
        if changed == 1:
            remove_folder(self.folder(number).path)
        return changed == 1

    def tick(self) -> None:
        """Record what has ended, and start what can start. Whoever has a queue calls it again and again."""
        self._record_ends()
        while (number := self._take()) is not None:
            self._start(number)

    def _record_ends(self) -> None:
        with self._transaction() as database:
            rows = database.execute(
                "SELECT number, stops, started, starter_pid, starter_birth FROM jobs WHERE state = 'running'"
            ).fetchall()
            for number, stops, started, pid, birth in rows:
                folder = self.folder(number)
                # Alive first: a status that is written in between is then seen below.
                runner, process = folder.runner, folder.process
                is_alive = any(found is not None and found.is_alive for found in (runner, process))
                if (status := folder.status) is not None:
                    exit_code, ended = status
                    _end(database, number, _state_of(exit_code, stops), exit_code=exit_code, ended=ended)
                elif runner is None:
                    # Nobody has claimed it: its starter was killed in between, or the runner could not start.
                    if not Process(pid, birth).is_alive or time.time() - started > CLAIM_SECONDS:
                        database.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE number = ?", (number,))
                elif not is_alive:
                    _end(database, number, "failed", exit_code=None, ended=time.time())

    def _take(self) -> int | None:
        """Mark the next job that can start as running, and return its number."""
        own = this_process(os.getpid())
        with self._transaction() as database:
            for lane, most in AT_ONCE.items():
                (running,) = database.execute(
                    "SELECT COUNT(*) FROM jobs WHERE state = 'running' AND lane = ?", (lane,)
                ).fetchone()
                following = database.execute(
                    "SELECT number FROM jobs WHERE state = 'queued' AND lane = ? ORDER BY number LIMIT 1", (lane,)
                ).fetchone()
                if running < most and following is not None:
                    number: int = following[0]
                    database.execute(
                        "UPDATE jobs SET state = 'running', started = ?, starter_pid = ?, starter_birth = ? "
                        "WHERE number = ?",
                        (time.time(), own.pid, own.birth, number),
                    )
                    return number
        return None

    def _start(self, number: int) -> None:
        folder = self.folder(number)
        with folder.log.open("ab") as log:
            starting = subprocess.run(  # it leaves the runner behind, which is nobody's child
                [sys.executable, "-m", "instil.studio.jobs.runner", str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                start_new_session=True,  # Ctrl-C of the studio's terminal is not for it
                env=self._environment(folder),
            )
        if starting.returncode:
            with self._transaction() as database:
                _end(database, number, "failed", exit_code=starting.returncode, ended=time.time())

    def _environment(self, folder: JobFolder) -> dict[str, str]:
        """Return what a job's process sees: the studio's own key is not for it, and a model is served with one of ours."""
        (verb, *_), _ = folder.command
        return environment_without_key() | ({"INSTIL_API_KEY": engine_key(self._root)} if verb == "serve" else {})

    @contextlib.contextmanager
    def _transaction(self, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction that nobody else's can come between; ``DEFERRED`` for one that only reads."""
        # Why a connection each: pages are served by several threads.
        database = sqlite3.connect(self._folder / "jobs.db", timeout=30.0, isolation_level=None)
        try:
            database.execute(f"BEGIN {kind}")
            yield database
            database.execute("COMMIT")
        finally:
            database.close()  # what was not committed is undone


def _end(database: sqlite3.Connection, number: int, state: str, *, exit_code: int | None, ended: float) -> None:
    database.execute(
        "UPDATE jobs SET state = ?, exit_code = ?, ended = ? WHERE number = ?", (state, exit_code, ended, number)
    )


def _state_of(exit_code: int, stops: int) -> str:
    """Return how a job ended; one that was asked to stop and reached its end all the same is done."""
    if exit_code == 0:
        return "done"
    return "stopped" if stops else "failed"


def _job(row: Sequence[Any]) -> Job:
    number, argv, title, lane, run, state, created, started, ended, exit_code, stops = row
    return Job(
        number=number,
        argv=tuple(argv.split(_SEPARATOR)),
        title=title,
        lane=lane,
        run=run,
        state=state,
        created=datetime.fromtimestamp(created).astimezone(),
        started=None if started is None else datetime.fromtimestamp(started).astimezone(),
        ended=None if ended is None else datetime.fromtimestamp(ended).astimezone(),
        exit_code=exit_code,
        stops=stops,
    )
