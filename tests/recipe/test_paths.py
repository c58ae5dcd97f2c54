"""Which paths of a recipe depend on the folder in which a command was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from instil.recipe import Recipe
from instil.recipe.paths import relative_paths

RECIPE = {
    "output": "runs/a",
    "model": {"name": "owner/model", "template": "chatml"},
    "data": {"sources": ["rows.jsonl", "parts/*.jsonl", "owner/rows", "s3://bucket/rows.jsonl"]},
    "checkpoint": {"mirror": "s3://bucket/a"},
}


def test_relative_paths_are_named_with_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pattern = "data.sources: parts/*.jsonl"
    assert relative_paths(Recipe.from_mapping(RECIPE)) == ("output: runs/a", pattern)
    # What may be a name of the Hub is a path where there is such a file or folder.
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "owner" / "model").mkdir(parents=True)
    found = relative_paths(Recipe.from_mapping(RECIPE))
    assert found == ("output: runs/a", "model.name: owner/model", "data.sources: rows.jsonl", pattern)


def test_absolute_paths_depend_on_no_folder(tmp_path: Path) -> None:
    settings = {
        "output": str(tmp_path / "run"),
        "data": {"sources": [str(tmp_path / "*.jsonl")], "heldout": ["~/rows.jsonl"], "store": str(tmp_path)},
    }
    assert relative_paths(Recipe.from_mapping(settings)) == ()
