"""Claims about the YAML of a recipe: values mean what a person means, and wrong YAML is named with its line."""

from __future__ import annotations

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("- a\n- b\n", "found a list. Expected a mapping"),
        ("hello\n", "found only 'hello'. Expected a mapping"),
        ("data: [unclosed\n", ":1: not valid YAML (the list that begins with [ has no end)"),
        ("seed: 1\ndata: [a, b\noutput: x\n", ":2: not valid YAML (the list that begins with [ has no end)"),
        ("seed: 1\ndata: {a: b\n\noutput: x\n", ":2: not valid YAML (the mapping that begins with { has no end)"),
        ('seed: 1\noutput: "x\nmodel: demo\n', ":2: not valid YAML (the text that begins with a quote has no end)"),
        ("seed: 1\ntraining\nmodel: demo\n", ":2: not valid YAML (could not find expected ':')"),
        ("model: demo\n  name: x\n", ":2: not valid YAML (mapping values are not allowed here)"),
        ("model: demo\ndata: [a, ]]\n", ":2: not valid YAML"),
        ("model: demo\n\tname: x\n", ":2: not valid YAML"),
        ("seed: 1\ndata:\n  date: a\n  date: b\n", ":4: not valid YAML (the key 'date' occurs twice)"),
        ("x: !!python/object:os.system {}\n", ":1: not valid YAML"),
        ("a: " + "[" * 2000 + "]" * 2000, "nested too deeply"),
    ],
)
def test_wrong_yaml_is_named_with_its_place(tmp_path, yaml, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml)
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe file"):
        Recipe.load(tmp_path / "none.yaml")


def test_yaml_means_what_a_person_means(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {date: 2024-01-01}\ntraining: {compile: off, shuffle: false}\noptimizer:\n")
    recipe = Recipe.load(path)
    assert (recipe.data.date, recipe.training.compile, recipe.training.shuffle) == ("2024-01-01", "off", False)
    recipe.save(tmp_path / "saved.yaml")
    assert Recipe.load(tmp_path / "saved.yaml") == recipe.model_copy(update={"output": recipe.output})
