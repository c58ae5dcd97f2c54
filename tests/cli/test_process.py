"""Claims about the process that the launcher starts: what it trains, and how it reports an error."""

from __future__ import annotations

import signal

import pytest

from instil.cli import process
from instil.errors import TrainingError
from instil.recipe import Recipe
from instil.training.processes.launcher import PROCESS, Handed
from instil.training.processes.signals import LAUNCHER, TORCHRUN


@pytest.fixture
def launched(monkeypatch):
    """Start the process with a recipe; return a function that replaces the training."""
    for name in (LAUNCHER, TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    task = Handed(Recipe.from_mapping({"training": {"max_steps": 3}}), True, True)
    monkeypatch.setattr("instil.training.processes.launcher.receive", lambda: task)

    def with_training(train):
        monkeypatch.setattr("instil.training.run.train", train)
        process.main()

    return with_training


def test_the_launcher_starts_this_module():
    assert process.__name__ == PROCESS


def test_it_trains_with_the_arguments_of_the_launcher(launched):
    calls = []
    launched(lambda recipe, *, resume, quiet: calls.append((recipe.training.max_steps, resume, quiet)))
    assert calls == [(3, True, True)]


def test_an_error_is_one_line_that_the_launcher_can_find(launched, capsys):
    def fail(*_, **__):
        raise TrainingError("step 2: the loss is\nnan")

    with pytest.raises(SystemExit) as stop:
        launched(fail)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: step 2: the loss is nan\n"


def test_a_signal_before_the_first_step_ends_it_with_the_status_of_the_signal(launched, capsys):
    with pytest.raises(SystemExit) as stop:
        launched(lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert stop.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"
