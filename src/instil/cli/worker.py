"""A process that the studio keeps warm: it runs a command in a child that has nothing left to import.

Why: torch takes seconds to import, and a page shows a plan anew whenever a setting changes. A child that is forked from a
process with all imports answers at once, and ends like any process if nobody needs its answer any more.

It reads requests from standard input, a JSON object a line, and writes an answer when a child has ended:

==========================================  =====================================================================
``{"id": 1, "run": [words], "out": path}``   run ``instil`` with these words; all it prints goes into the file
``{"id": 2, "read": [words], "out": path}``  write what a command line of ``train`` or ``plan`` means, as JSON
``{"cancel": 1}``                            end the child
``{"id": 1, "status": 0}``                   the answer: the exit status of the child, negative for a signal
==========================================  =====================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

IDLE_SECONDS = 600.0
"""How long the process waits for a request before it ends: it holds the memory of torch."""
TICK_SECONDS = 0.03
INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a child that was cancelled, as that of a command after Ctrl-C."""
KILL_SECONDS = 2.0
"""How long a cancelled child may take to remove what it was writing."""


def main() -> None:
    """Serve requests until standard input ends."""
    import instil.cli.main
    import instil.cli.train  # noqa: F401  # what reading a command line needs, in a second; tests import this module too

    children = Children()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of the studio's terminal: the studio decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        serve(children)
    finally:
        children.end_all()
        os._exit(0)  # all is flushed, and torch takes seconds to take down


def serve(children: Children) -> None:
    """Take requests and answer them until there are no more, or none has come for long."""
    unread, last = b"", time.monotonic()
    while True:
        ready, _, _ = select.select([0], [], [], TICK_SECONDS if children.running else IDLE_SECONDS)
        if ready:
            data = os.read(0, 65_536)
            if not data:
                break
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                children.take(json.loads(line))
            last = time.monotonic()
        for number, status in children.ended():
            print(json.dumps({"id": number, "status": status}), flush=True)
            last = time.monotonic()
        if not children.running and time.monotonic() - last >= IDLE_SECONDS:
            break


def warm_up() -> None:
    """Import what a plan imports, by making one: of the embedded model, on the CPU, in a folder of its own.

    Why one thread: OpenMP's threads do not exist in a forked child, which would wait for them forever.
    """
    import tempfile

    import torch

    from instil.recipe import Recipe
    from instil.screen import say_nothing
    from instil.sweeps.plan import plan_sweep  # noqa: F401  # a child that plans a sweep needs it
    from instil.training.run_plan import plan_run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="instil-") as folder:
            rows = Path(folder) / "rows.jsonl"
            rows.write_text('{"question": "1+1", "answer": "2"}\n' * 4, encoding="utf-8")
            data = {"sources": [str(rows)], "store": f"{folder}/store", "heldout_share": 0}
            plan_run(Recipe.from_mapping({"data": data, "device": "cpu", "adapter": "lora"}), say=say_nothing)
    finally:
        torch.set_num_threads(threads)


class Children:
    """The children that run, by the number of their request."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}
        self._deadlines: dict[int, float] = {}
        self._is_warm = False

    def take(self, request: Mapping[str, Any]) -> None:
        """Start a child for a request, or end one."""
        if "cancel" in request:
            number = request["cancel"]
            if number in self.running and number not in self._deadlines:
                self._signal(number, signal.SIGINT)  # it removes what it was writing
                self._deadlines[number] = time.monotonic() + KILL_SECONDS
            return
        if "run" in request and not self._is_warm:
            warm_up()  # once: it takes as long as the first command would
            self._is_warm = True
        work = _run if "run" in request else _read
        words = request.get("run", request.get("read"))
        self.running[request["id"]] = _fork(work, words, Path(request["out"]))

    def ended(self) -> list[tuple[int, int]]:
        """Return the requests whose child has ended, with its status."""
        found = []
        for number, pid in list(self.running.items()):
            if time.monotonic() > self._deadlines.get(number, float("inf")):
                self._signal(number, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.running[number]
                self._deadlines.pop(number, None)
                found.append((number, os.waitstatus_to_exitcode(status)))
        return found

    def end_all(self) -> None:
        """End every child."""
        for number in list(self.running):
            self._signal(number, signal.SIGINT)
        end = time.monotonic() + KILL_SECONDS
        while self.running and time.monotonic() < end:
            self.ended()
            time.sleep(TICK_SECONDS)
        for number in list(self.running):
            self._signal(number, signal.SIGKILL)

    def _signal(self, number: int, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; it has no group of its own yet
            os.killpg(self.running[number], which)


def _fork(work: Callable[[Sequence[str]], None], words: Sequence[str], out: Path) -> int:
    """Run work in a child with a process group of its own, and return its pid."""
    sys.stdout.flush()
    # This process ignores SIGINT. One that cancels the child waits until the child hears it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(OSError):  # the child does it too: whoever is first
            os.setpgid(pid, pid)
        return pid
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(source, target)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        status = _status_of(work, words)
    except KeyboardInterrupt:  # it was cancelled before it had begun
        status = INTERRUPTED
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # nothing of the parent's is ended here


def _status_of(work: Callable[[Sequence[str]], None], words: Sequence[str]) -> int:
    """Do the work and return its exit status."""
    try:
        work(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:  # while it imported, before the verb that saves and says so
        return INTERRUPTED
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _run(words: Sequence[str]) -> None:
    from instil.cli.main import main as instil

    instil(words)


def _read(words: Sequence[str]) -> None:
    from instil.cli.main import report_errors

    with report_errors(words[0], words):
        print(json.dumps(meaning_of(words)))


def meaning_of(words: Sequence[str]) -> dict[str, Any]:
    """Return what a command line of ``train`` or ``plan`` means, without running it.

    Returns:
        ``recipe``: path or name of the recipe that it starts from, or None. ``data``: the data that stands in its place, or
        None. ``settings``: the typed settings, nested. ``others``: the typed options that are no settings.

    Raises:
        InstilError: If a value cannot be read.
        CycloptsError: If there is no such option.
    """
    from instil.api.subjects import subject_of
    from instil.cli.main import parser_of
    from instil.cli.settings import typed
    from instil.cli.sweep_options import NO_SWEEP, with_options

    app, ready = parser_of(words)
    _, bound, _ = app.parse_args(ready, print_error=False, exit_on_error=False)
    options = bound.arguments
    word, settings = options.pop("recipe", None), options.pop("settings", None)
    overrides = with_options(typed(settings), options.pop("sweeping", NO_SWEEP))
    subject = None if word is None else subject_of(word)
    shown = {} if settings is None else settings.model_dump(mode="json", exclude_unset=True)
    return {
        "recipe": word if subject is not None and subject.recipe is not None else None,
        "data": None if subject is None else subject.data,
        "settings": shown | ({"sweep": overrides["sweep"]} if "sweep" in overrides else {}),
        "others": sorted(f"--{name.removeprefix('as_').replace('_', '-')}" for name in options),
    }


if __name__ == "__main__":
    main()
