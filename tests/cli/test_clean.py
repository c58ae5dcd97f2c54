"""Claims about ``instil clean``: it lists first, removes only on request, and says what was freed."""

from __future__ import annotations

import json

import pytest
from tests.preparation.small_store import write
from tests.training.command_line import exit_code

KEYS = [f"{number:032x}" for number in range(3)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for key in KEYS[:2]:
        write(tmp_path / "cache" / "prepared" / key)
    return tmp_path / "cache" / "prepared"


def test_nothing_is_removed_without_remove(cache, capsys):
    assert exit_code("clean") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith(f"{cache} (2 stores, ")
    assert "nothing is chosen" in out
    assert exit_code("clean", "--all") == 0
    assert "2 stores, " in capsys.readouterr().out.splitlines()[-1]
    assert len(list(cache.iterdir())) == 2
    assert exit_code("clean", "--remove") == 2
    assert "--remove without a choice" in capsys.readouterr().err
    assert exit_code("clean", "--older-than", "30d", "--remove") == 0
    assert "freed 0 bytes: 0 stores removed" in capsys.readouterr().out
    assert len(list(cache.iterdir())) == 2


def test_what_was_removed_is_said_also_of_a_folder_that_was_named(cache, tmp_path, capsys):
    write(tmp_path / "own" / KEYS[2])
    assert exit_code("clean", "own", "--all", "--remove") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(": 3 stores removed")
    assert list(cache.iterdir()) == []
    assert list((tmp_path / "own").iterdir()) == []
    assert exit_code("clean") == 0
    assert capsys.readouterr().out == "no prepared stores\n"


def test_the_list_as_json(cache, capsys):
    assert exit_code("clean", "--larger-than", "1k", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(stored["key"], stored["state"], stored["removed"]) for stored in shown] == [
        (key, "unused", False) for key in KEYS[:2]
    ]
    assert all(stored["chosen"] for stored in shown)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--older-than", "30"], "--older-than: found '30'. Expected a number and a unit"),
        (["--keep", "much"], "--keep: found 'much'"),
        (["no/such"], "no/such: no such folder"),
    ],
)
def test_wrong_values_are_one_line(cache, words, said, capsys):
    assert exit_code("clean", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
