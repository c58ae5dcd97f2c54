"""The chat on a real terminal: the prompt is there before the model, no line is lost, a failure is reported at once."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.tiny_chat import folders

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
LONGEST_WAIT = 60
"""Seconds after which a test gives up; it decides nothing else."""
LATE = """
import time
from pathlib import Path
from instil.cli import chat
from instil.cli.main import main
own = chat._load
def late(*arguments, **options):
    while not Path({gate!r}).exists(): time.sleep(0.02)
    return own(*arguments, **options)
chat._load = late
main({words!r})
"""


class Person:
    """A person at `instil chat`; the model is not loaded before `let_load`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.gate = folder / "gate"
        code = LATE.format(gate=str(self.gate), words=["chat", *words])
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": ":".join(sys.path)}
            os.execve(sys.executable, [sys.executable, "-c", code], environment)
        self._raw = b""

    @property
    def seen(self) -> str:
        """What the screen showed so far. A read may end within a character or a colour, so all of it is decoded anew."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode("utf-8", "replace"))

    def let_load(self) -> None:
        self.gate.touch()

    def types(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def reads(self, pattern: str, *, pressing: str = "") -> None:
        """Read until the pattern appears on the screen; press a key now, and again whenever a second shows nothing."""
        end, pressed = time.monotonic() + LONGEST_WAIT, -math.inf
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, self.seen
            if pressing and time.monotonic() - pressed > 1:
                self.types(pressing)
                pressed = time.monotonic()
            if not self._read():
                assert re.search(pattern, self.seen), self.seen

    def _read(self) -> bool:
        if not select.select([self.terminal], [], [], 1)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # Linux reports a closed terminal so
            return False
        self._raw += data
        return bool(data)

    def ends(self) -> int:
        """Return the exit status."""
        while self._read():
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def sit_down(tmp_path: Path):
    people: list[Person] = []

    def start(*words: str) -> Person:
        people.append(Person(tmp_path, *words))
        return people[-1]

    yield start
    for person in people:
        try:
            if os.waitpid(person.pid, os.WNOHANG)[0] == 0:
                os.kill(person.pid, signal.SIGKILL)
                os.waitpid(person.pid, 0)
        except ChildProcessError:
            continue


@pytest.mark.slow
def test_a_line_typed_before_the_model_is_there_is_answered(sit_down):
    person = sit_down(str(folders()["tuned"]))
    person.reads("you  ")
    person.types("Capital of \\\n")
    person.reads(r"\.\.\.  ")
    person.types("Peru?\n")
    person.let_load()
    person.reads(r"tuned  \S")
    person.types("/reset\nSay hi\n/exit\n")
    assert person.ends() == 0
    assert "Hi there!" in person.seen


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_reported_in_the_middle_of_a_line(sit_down, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    for path in folders()["tuned"].iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "config.json").write_text('{"model_type": "no such"}')
    person = sit_down(str(model))
    person.reads("you  ")
    person.types("Capital of")
    person.let_load()
    person.reads("error: ")
    assert person.ends() == 2
    assert "config.json: transformers cannot use it" in " ".join(person.seen.split())
    assert "press Ctrl-D" not in person.seen


def test_a_missing_model_is_reported_before_the_prompt(sit_down):
    person = sit_down("runs/absent")
    assert person.ends() == 2
    assert "runs/absent: no such model folder" in person.seen
    assert "you  " not in person.seen


@pytest.mark.parametrize(("keys", "status"), [("/exit\n", 0), ("\x04", 0), ("Say hi\n\x03", 130)])
def test_a_person_can_leave_while_the_model_is_loaded(sit_down, keys: str, status: int):
    person = sit_down(str(folders()["tuned"]))
    person.reads("you  ")
    first, _, rest = keys.partition("\n")
    person.types(first + ("\n" if "\n" in keys else ""))
    if rest:
        person.reads("loading the model")
        person.types(rest)
    assert person.ends() == status


def test_ctrl_c_at_the_prompt_says_how_to_leave(sit_down):
    person = sit_down(str(folders()["tuned"]))
    person.reads("you  ")
    # Python looks for signals before it waits for keys: one that comes right between shows with the next key.
    person.reads("press Ctrl-D or type /exit to leave", pressing="\x03")
    person.reads(r"leave\)\s+you  ")
    person.types("\x04")
    assert person.ends() == 0
