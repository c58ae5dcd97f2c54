"""Claims about the kinds of values that settings have."""

from __future__ import annotations

from instil.recipe import Recipe


def test_scientific_notation_is_a_number_however_yaml_reads_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer: {lr: 2e-5, eps: 1e-8, betas: [9e-1, 0.95]}\n")
    recipe = Recipe.load(path)
    assert (recipe.optimizer.lr, recipe.optimizer.eps, recipe.optimizer.betas) == (2e-5, 1e-8, (0.9, 0.95))
