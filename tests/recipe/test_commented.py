"""Claims about recipe files with comments: what is written is read back, whatever a setting holds."""

from __future__ import annotations

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.recipe.commented import (
    commented_yaml,
    descriptions,
    settings_that_were_set,
    write_recipe_file,
)


@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"sources": ["a.jsonl", {"path": "b", "rows": 7}]}, "training": {"freeze": ["model.*"]}},
        {"model": {"template": "{% for m in messages %}\n{{ m.content }}\n{% endfor %}"}},
        {"data": {"columns": {"user": '# {a}: "b"', "assistant": "{c}\n\n d"}}, "output": "runs/ü #1"},
        {"data": {"delimiter": "tab"}, "evaluate": {"samples": ["- x", "yes", "1e5", "# no comment"]}},
        {
            "data": {"date": "2026-01-01", "template_variables": {"a": {"b": [1, None, True]}}},
            "optimizer": {"clip": None},
        },
    ],
)
def test_what_is_written_is_read_back(tmp_path, settings):
    recipe = Recipe.from_mapping(settings)
    text = commented_yaml(settings_that_were_set(recipe), descriptions(), head=["A head.", ""])
    write_recipe_file(tmp_path / "r.yaml", text)
    assert Recipe.load(tmp_path / "r.yaml") == recipe


def test_every_setting_has_a_comment():
    names = descriptions()
    assert {"optimizer.lr", "model.name", "data.sources", "output"} <= set(names)
    assert all(names.values())


def test_a_file_that_holds_something_else_stays(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("mine: 1\n")
    with pytest.raises(RecipeError, match="exists, and is not overwritten"):
        write_recipe_file(file, "model: demo\n")
    assert file.read_text() == "mine: 1\n"
    with pytest.raises(RecipeError, match=r"cannot be written|no such"):
        write_recipe_file(tmp_path / "no" / "folder" / "r.yaml", "model: demo\n")
