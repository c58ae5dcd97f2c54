from __future__ import annotations

from pathlib import Path

import pytest
from tests.corpus import corpus_path, needs_corpus
from tests.training.command_line import losses_of, train

from instil.recipe import Recipe
from instil.recipe.shipped import FOLDER

RECIPES = sorted(FOLDER.glob("*.yaml"))
SHORT = ("--training.max-steps", "1", "--training.batch-size", "4", "--evaluate.max-new-tokens", "2")


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"alpaca", "full", "gsm8k", "lora", "neftune", "qlora", "two-processes"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_explains_itself(path: Path):
    recipe = Recipe.load(path)
    assert recipe.output == f"runs/{path.stem}"
    assert recipe.model.name == "demo"
    assert path.read_text().startswith("# ")


@pytest.mark.slow
@needs_corpus(2)
@pytest.mark.parametrize(
    ("name", "file"),
    [("gsm8k", "gsm8k_test.jsonl"), pytest.param("alpaca", "alpaca_en_demo.json", marks=pytest.mark.long)],
)
def test_real_data_trains_from_its_recipe(tmp_path: Path, name: str, file: str):
    corpus = corpus_path()
    assert corpus is not None
    few = tmp_path / file
    if file.endswith(".jsonl"):
        few.write_text("".join((corpus / "datasets" / file).read_text().splitlines(keepends=True)[:40]))
    else:
        import json

        few.write_text(json.dumps(json.loads((corpus / "datasets" / file).read_text())[:40]))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((RECIPES[0].parent / f"{name}.yaml").read_text())
    words = ("--output", str(tmp_path / "run"), "--data.sources", str(few), "--data.store", str(tmp_path / "store"))
    run = train(recipe, *words, "--data.heldout-max", "4", *SHORT)
    assert len(losses_of(run)) == 1
