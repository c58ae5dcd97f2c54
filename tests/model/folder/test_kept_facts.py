"""A kept fact is used only while everything that it was found from is the same; any other file is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from instil.model.folder import kept_facts
from instil.model.folder.kept_facts import Fact, kept_fact


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a model's folder, an empty cache, and a process that found a fact before torch was imported."""
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_facts, "_FOUND", {"another"})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path / "model"


def asked(folder: Path, fact: Fact = 512) -> tuple[Fact, bool]:
    """Ask for a fact; return it and whether it had to be found."""
    calls: list[int] = []

    def find() -> Fact:
        calls.append(1)
        return fact

    return kept_fact(folder, "context", find), bool(calls)


def the_file(folder: Path) -> Path:
    (path,) = (folder.parent / "cache" / "facts").iterdir()
    return path


@pytest.mark.parametrize("fact", [512, None, "transformers.module:Class"])
def test_a_fact_is_found_once(folder: Path, fact: Fact):
    assert asked(folder, fact) == (fact, True)
    assert asked(folder, "another") == (fact, False)


def _change_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "olmo2"}')


def _change_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _add_a_name(folder: Path) -> None:
    (folder / "tekken.json").write_text("")


@pytest.mark.parametrize("change", [_change_config, _change_tokenizer, _add_a_name])
def test_a_change_of_the_folder_makes_it_be_found_again(folder: Path, change: Callable[[Path], None]):
    asked(folder, 512)
    change(folder)
    assert asked(folder, 1024) == (1024, True)
    assert asked(folder, 2048) == (1024, False)


@pytest.mark.parametrize("name", ["__version__", "VERSION", "LIBRARIES"])
def test_other_versions_make_it_be_found_again(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    asked(folder, 512)
    monkeypatch.setattr(kept_facts, name, ("jinja2",) if name == "LIBRARIES" else "another")
    assert asked(folder, 1024) == (1024, True)


def test_other_code_makes_it_be_found_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked(folder, 512)
    monkeypatch.setattr(kept_facts, "_CODE", ("model/folder",))
    assert asked(folder, 1024) == (1024, True)


def _other_fact(text: str) -> str:
    return json.dumps({**json.loads(text), "fact": 7})


def _of_another_type(text: str) -> str:
    values = json.loads(text)
    return json.dumps({**values, "fact": [1], "check": kept_facts._check(values["key"], [1])})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage", [_other_fact, _of_another_type, lambda text: text[:40], lambda _: "", lambda _: "[]", lambda _: "\0"]
)
def test_a_damaged_file_is_ignored_and_replaced(folder: Path, damage: Callable[[str], str]):
    asked(folder, 512)
    the_file(folder).write_text(damage(the_file(folder).read_text()))
    assert asked(folder, 512) == (512, True)
    assert asked(folder, 1024) == (512, False)


def test_a_file_of_another_folder_does_not_count(folder: Path):
    asked(folder, 512)
    other = folder.rename(folder.with_name("moved"))
    assert asked(other, 1024) == (1024, True)


def test_an_error_is_raised_and_nothing_is_kept(folder: Path):
    def find() -> Fact:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        kept_fact(folder, "context", find)
    assert asked(folder) == (512, True)


def test_a_cache_that_cannot_be_written_costs_only_time(folder: Path):
    (folder.parent / "cache").write_text("a file")
    assert asked(folder, 512) == (512, True)
    assert asked(folder, 1024) == (1024, True)


def test_a_folder_that_changes_meanwhile_is_not_kept(folder: Path):
    def find() -> Fact:
        _change_config(folder)
        return 512

    assert kept_fact(folder, "context", find) == 512
    assert asked(folder, 1024) == (1024, True)


def test_a_process_that_has_torch_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import torch  # noqa: F401

    monkeypatch.setattr(kept_facts, "_FOUND", set())
    assert asked(folder, 512) == (512, True)
    assert asked(folder, 1024) == (1024, True)
    assert not (folder.parent / "cache").exists()


def test_the_number_of_files_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_facts, "MOST_FACTS", 3)
    for number in range(7):
        kept_fact(folder, f"fact{number}", lambda: 1)
    assert 1 <= len(list((folder.parent / "cache" / "facts").iterdir())) <= 3
