"""Claims about ``instil train``: what reaches the training, and the exit status."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.training.command_line import exit_code

from instil.training.records.run_folder import Run


@pytest.fixture
def trainings(monkeypatch):
    """Replace the training; return the list of its calls, and a dict with the signal that stops it."""
    calls, stop = [], {"signal": None}

    def train(recipe, *, resume, quiet):
        calls.append((recipe, resume))
        return Run(Path(), stop["signal"] is None, {}, stop["signal"])

    monkeypatch.setattr("instil.training.run.train", train)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return calls, stop


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    path = tmp_path / "mine.yaml"
    path.write_text("data: {sources: rows.jsonl}\ntraining: {epochs: 1, batch_size: 4}\n", encoding="utf-8")
    return str(path)


def test_options_replace_settings_of_the_file_even_by_a_default(trainings, recipe):
    assert exit_code("train", recipe, "--training.epochs", "3", "--optimizer.lr", "1e-4", "--resume") == 0
    ((trained, resume),) = trainings[0]
    assert (trained.training.epochs, trained.training.batch_size, trained.optimizer.lr) == (3.0, 4, 1e-4)
    assert trained.data.sources[0].path == "rows.jsonl"
    assert trained.output == "runs/mine"
    assert resume


def test_a_run_that_a_signal_stopped_exits_with_that_signal(trainings, recipe):
    trainings[1]["signal"] = signal.SIGTERM
    assert exit_code("train", recipe) == 128 + signal.SIGTERM


def test_a_process_of_several_leaves_the_status_to_its_launcher(trainings, recipe, monkeypatch):
    trainings[1]["signal"] = signal.SIGTERM
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert exit_code("train", recipe) == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere.yaml"], "nowhere.yaml: no such recipe file"),
        (["RECIPE", "--training.batch-size", "0"], "--training.batch-size: found '0'"),
    ],
)
def test_a_wrong_recipe_is_one_line_and_trains_nothing(trainings, recipe, words, reason, capsys):
    assert exit_code("train", *[recipe if word == "RECIPE" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert error.count("\n") == 1
    assert trainings[0] == []
