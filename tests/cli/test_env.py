"""Claims about ``instil env``: text to paste, and JSON."""

from __future__ import annotations

import json

import pytest
from tests.environment.test_environment import MADE
from tests.training.command_line import exit_code


@pytest.fixture(autouse=True)
def _made(monkeypatch):
    monkeypatch.setattr("instil.environment.environment.env", lambda: MADE)


def test_it_prints_what_the_record_says_and_problems_as_warnings(capsys):
    assert exit_code("env") == 0
    text = capsys.readouterr().out
    assert text.rstrip() == repr(MADE).replace("\npeft: not", "\nwarning: peft: not")


def test_json_has_everything(capsys):
    assert exit_code("env", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(MADE.to_json()))
