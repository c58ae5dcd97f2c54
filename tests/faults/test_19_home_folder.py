"""``~`` in a path of a recipe, an option or a call is the home folder. No folder named ``~`` is ever made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import QUICK, exit_code, make_base, make_rows

import instil
from instil.data import read, write
from instil.errors import InstilError, RecipeError
from instil.files import home_path
from instil.recipe import Recipe
from instil.training.records.run_folder import Run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path / "here")
    return folder


def path_settings(schema: Any = Recipe, prefix: str = "") -> dict[str, Any]:
    """Return a value that begins with ``~`` for every setting that names a path."""
    return {
        "output": "~/runs/x",
        "model.name": "~/base",
        "model.template": "~/chat.jinja",
        "adapter.resume_from": "~/adapter",
        "data.store": "~/store",
        "data.sources": ["~/rows.jsonl", {"path": "~/more/*.jsonl"}],
        "data.heldout": "~/heldout.jsonl",
    }


def test_every_path_of_a_recipe_is_expanded_and_saved_so(home: Path) -> None:
    values: dict[str, Any] = {}
    for key, value in path_settings().items():
        *groups, name = key.split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    text = Recipe.from_mapping(values).to_yaml()
    assert "~" not in text
    assert text.count(str(home)) == 8
    # A setting whose description speaks of a file or folder takes part in this test.
    described = {
        f"{group}.{name}" if group else name
        for group, fields in [("", Recipe.model_fields)]
        + [
            (name, field.annotation.model_fields)
            for name, field in Recipe.model_fields.items()
            if hasattr(field.annotation, "model_fields")
        ]
        for name, field in fields.items()
        if str in (field.annotation, *getattr(field.annotation, "__args__", ()))
        and "folder" in (field.description or "")
    }
    assert described - {"tracking.name"} <= set(path_settings())


@pytest.mark.slow
def test_no_folder_named_tilde_is_made(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_base(home / "base")
    make_rows(home / "rows.jsonl", count=8)
    recipe = {
        **QUICK,
        "output": "~/runs/x",
        "model": {"name": "~/base"},
        "data": {"sources": ["~/rows.jsonl"], "store": "~/store"},
    }
    recipe["training"] = {**QUICK["training"], "max_steps": 1}
    recipe["evaluate"] = {"every": 1, "max_new_tokens": 2}
    (home / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert exit_code("train", "~/r.yaml") == 0
    assert (home / "runs/x/model/config.json").exists()
    assert Run.open("~/runs/x").folder == home / "runs/x"
    assert Recipe.load_saved("~/runs/x").output == str(home / "runs/x")
    assert instil.ChatTokenizer.from_pretrained("~/runs/x/model").stop_tokens
    for words in (
        ("convert", "~/rows.jsonl", "~/out.jsonl"),
        ("inspect", "~/rows.jsonl", "--model=~/base", "--html=~/page.html"),
        ("inspect", "~/rows.jsonl", "--model", "~/base", "--fix", "~/fixed.jsonl"),
        ("generate", "~/runs/x", "--prompts=~/rows.jsonl", "--out", "~/answers.jsonl", "--limit", "1"),
        ("evaluate", "~/runs/x", "--data=~/rows.jsonl", "--out=~/report"),
        ("export", "~/runs/x", "~/exported", "--dtype=fp32"),
        ("runs", "~/runs"),
    ):
        code = exit_code(*words)
        assert code == 0, (words, capsys.readouterr().err)
    for name in ("out.jsonl", "page.html", "fixed.jsonl", "answers.jsonl", "report", "exported/config.json", "store"):
        assert (home / name).exists(), name
    assert list((tmp_path / "here").iterdir()) == []


def test_python_reads_and_writes_in_the_home_folder(home: Path, tmp_path: Path) -> None:
    write_jsonl(home / "rows.jsonl", [{"question": "a", "answer": "b"}])
    assert write(read("~/rows.jsonl"), "~/out.jsonl") == 1
    assert json.loads((home / "out.jsonl").read_text())["messages"][0]["content"] == "a"
    Recipe.from_mapping({}).save("~/saved.yaml")
    assert (home / "saved.yaml").exists()
    assert list((tmp_path / "here").iterdir()) == []


def test_an_unknown_user_is_refused_and_other_tildes_stay(home: Path) -> None:
    with pytest.raises(RecipeError, match=r"output: found '~nobody-here/runs'\. No home folder of a user"):
        Recipe.from_mapping({"output": "~nobody-here/runs"})
    with pytest.raises(InstilError, match="no home folder of a user 'nobody-here'"):
        list(read("~nobody-here/rows.jsonl"))
    for same in ("runs/~x", "./~/x", "~$book.xlsx", "$HOME/x", "a~b"):
        assert str(home_path(same)) == str(Path(same))
    assert Recipe.from_mapping({"model": {"template": "~{user}~{assistant}"}}).model.template == "~{user}~{assistant}"
    user = Path("~root").expanduser()
    assert home_path("~root/x") == user / "x"
