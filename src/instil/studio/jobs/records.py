"""What a job is, and which commands a page may start."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from instil.errors import ServeError
from instil.generation.http_api.addresses import is_loopback

State = Literal["queued", "running", "done", "failed", "stopped"]
Lane = Literal["device", "beside", "engine"]
"""``device``: one at a time, because it fills the device; ``beside``: at once, as `prepare` or a test of a recipe;
``engine``: a model that the chat page talks to."""
VERBS = frozenset(
    {"train", "plan", "inspect", "prepare", "convert", "generate", "evaluate", "export", "report", "demo", "serve"}
)
"""Commands that a page may start. None of them asks on a terminal; only `serve` listens, and on loopback."""
NEVER = frozenset(
    {
        *("trust-remote-code", "host", "cors", "key", "api-key", "push", "judge-url", "judge-key"),
        *("run-code", "harness", "harness-folder", "check-with", "public", "tag"),
        *("cluster", "launcher", "mirror", "tracking", "tracking.to", "tracking.project", "tracking.name"),
    }
)
"""Options that no page may set, in full or by their last part: they run foreign code, or reach beyond this machine."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command that was or will be started.

    Attributes:
        number: Its number, from 1; also the name of its folder.
        argv: Words of the command behind ``instil``.
        title: What people call it; text.
        lane: Whether it waits for the device.
        run: The run folder that it writes, below the workspace; or empty.
        state: Where it is.
        created: When it was put into the queue.
        started: When it was started, or None.
        ended: When it ended, or None.
        exit_code: Its exit status; negative for the signal that killed it. None while it runs, and if it is lost.
        stops: How often it was asked to stop: 1 saves first, 2 stops at once, 3 kills.
    """

    number: int
    argv: tuple[str, ...]
    title: str
    lane: Lane
    run: str
    state: State
    created: datetime
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    stops: int

    @property
    def command(self) -> str:
        """The command as a terminal takes it."""
        return shlex.join(("instil", *self.argv))

    @property
    def failure(self) -> tuple[str, dict[str, object]] | None:
        """Why it failed, as the key of a text and its values; None if it did not."""
        if self.state != "failed":
            return None
        if self.exit_code is None:
            return "jobs.lost", {}
        if self.exit_code == -signal.SIGKILL:
            return "jobs.killed_hard", {}
        if self.exit_code < 0:
            return "jobs.killed", {"signal": signal.Signals(-self.exit_code).name}
        return "jobs.exit_code", {"code": self.exit_code}


def signature(jobs: Sequence[Job]) -> object:
    """Return a value that changes with the state of any of the jobs."""
    return [(job.number, job.state, job.stops) for job in jobs]


def check_argv(argv: Sequence[str]) -> None:
    """Check that a page may start a command.

    Raises:
        ServeError: If its verb or an option is not for pages.

    Example:
        >>> check_argv(["train", "recipe.yaml", "--model.trust-remote-code"])
        Traceback (most recent call last):
        instil.errors.ServeError: model.trust_remote_code: cannot be set from a page. ...
    """
    if not argv or argv[0] not in VERBS:
        raise ServeError(
            f"instil {argv[0] if argv else ''}: cannot be started from a page. Allowed is {', '.join(sorted(VERBS))}. "
            "Start it in a terminal."
        )
    for word in argv[1:]:
        option = word.partition("=")[0]
        name = option.lstrip("-").replace("_", "-").removeprefix("no-")
        if option.startswith("--") and NEVER & {name, name.rpartition(".")[2]}:
            raise ServeError(f"{option}: cannot be set from a page. Start the command in a terminal if you mean it.")
        if option == "--judge" and not is_own_server(word.partition("=")[2]):
            raise ServeError(
                f"{word}: runs code as the judge, or sends answers to another machine. Expected the address of a model on "
                "this one, such as --judge=http://127.0.0.1:8000/v1. Start it in a terminal."
            )


def is_own_server(address: str) -> bool:
    """Return whether an address names a server on this machine.

    Example:
        >>> is_own_server("http://localhost:8000/v1"), is_own_server("http://api.example"), is_own_server("os:system")
        (True, False, False)
    """
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and parts.username is None and is_loopback(parts.hostname or "")
    except ValueError:
        return False
