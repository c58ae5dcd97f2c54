"""Claims about ``sweep:`` in a recipe: it is read and saved, and a typed value ends a swept one."""

from __future__ import annotations

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("sweep:\n  optimizer: {lr: [1e-4, 3e-4]}\n  adapter.rank: [8, 16]\n  best_by: numeric\n")
    return path


def test_it_is_read_with_dotted_names_and_saved(file, tmp_path):
    recipe = Recipe.load(file)
    assert recipe.sweep == {"optimizer.lr": ["1e-4", "3e-4"], "adapter.rank": [8, 16], "best_by": "numeric"}
    recipe.save(tmp_path / "again.yaml")
    assert Recipe.load(tmp_path / "again.yaml") == recipe


def test_a_typed_value_ends_a_swept_one_and_typed_values_replace_them(file):
    assert "optimizer.lr" not in Recipe.load(file, {"optimizer.lr": 1e-5}).sweep
    changed = Recipe.load(file, {"sweep": {"optimizer.lr": [1, 2], "trials": 3}})
    assert changed.sweep == {"optimizer.lr": [1, 2], "adapter.rank": [8, 16], "best_by": "numeric", "trials": 3}
    assert Recipe.load(file).override({"adapter": {"rank": 4}}).sweep.keys() == {"optimizer.lr", "best_by"}


def test_a_recipe_without_one_is_saved_as_before():
    assert "sweep" not in Recipe().to_yaml()
    assert Recipe.from_mapping({"sweep": None}).sweep == {}


def test_what_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("sweep: [1e-4, 3e-4]\n")
    with pytest.raises(RecipeError, match="sweep: found"):
        Recipe.load(tmp_path / "r.yaml")
    with pytest.raises(RecipeError, match="sweep: found"):
        Recipe.load(tmp_path / "r.yaml", {"optimizer.lr": 1})


def test_a_list_for_one_value_names_the_sweep():
    with pytest.raises(RecipeError, match=r"optimizer.lr: found \[1, 2\]. Input should be a number. For a run of each"):
        Recipe.from_mapping({"optimizer.lr": [1, 2]})
    with pytest.raises(RecipeError) as error:
        Recipe.from_mapping({"data": {"sources": [5]}})
    assert "sweep" not in str(error.value)
