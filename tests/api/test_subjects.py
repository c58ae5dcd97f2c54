"""Claims about the word after a verb: what is a recipe, what is data, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import instil
from instil.api.recipes import recipe_of
from instil.api.subjects import run_name, subject_of
from instil.errors import RecipeError


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(40))
    )
    return "rows.jsonl"


def test_data_needs_no_recipe_and_names_the_run(rows):
    recipe = recipe_of(rows, settings={"model": "demo", "adapter": "lora"}, needs_data=True)
    assert [source.path for source in recipe.data.sources] == ["rows.jsonl"]
    assert (recipe.output, recipe.model.name, recipe.adapter.kind) == ("runs/rows", "demo", "lora")
    assert recipe_of(None, settings={"data": "rows.jsonl"}) == recipe_of(None, data="rows.jsonl")
    assert recipe_of(None, data="rows.jsonl") == recipe_of(rows)


def test_a_shipped_recipe_is_found_by_its_name_and_needs_data(rows):
    assert recipe_of("lora", data=rows, needs_data=True).output == "runs/lora"
    with pytest.raises(RecipeError, match=r"Name it: instil train rows\.jsonl, data=.rows\.jsonl"):
        recipe_of("lora", needs_data=True)
    Path("full").mkdir()
    assert subject_of("full").recipe is not None
    assert subject_of("./full").data == "./full"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("rows.jsonl", "rows.jsonl"),
        ("-", "-"),
        ("owner/name", "owner/name"),
        ("nowhere.csv", "nowhere.csv"),  # reading it says which file is near
        ("*.jsonl", "*.jsonl"),
    ],
)
def test_all_that_is_no_recipe_is_data(rows, word, told):
    assert subject_of(word).data == told


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (
            "fulll",
            "neither a recipe nor data (did you mean 'full'?). Tried: a file or folder, a recipe that ships (alpaca,",
        ),
        ("rows.jsnl", "neither a recipe nor data (did you mean 'rows.jsonl'?)"),
        ("a/b/c", "neither a recipe nor data"),
        ("demo", 'demo: is a model. Expected data or a recipe. Write model="demo" data="rows.jsonl"'),
    ],
)
def test_what_is_neither_names_what_was_tried(rows, word, reason):
    with pytest.raises(RecipeError) as error:
        subject_of(word)
    assert reason in str(error.value)


def test_data_named_twice_is_an_error(rows):
    for both in ({"data": rows}, {"settings": {"data": "rows.jsonl"}}, {"settings": {"data.sources": "rows.jsonl"}}):
        with pytest.raises(RecipeError, match=r"rows\.jsonl: the data is named twice"):
            recipe_of(rows, **both)


def test_a_run_or_a_model_in_the_place_of_data_is_named(tmp_path):
    run, model = tmp_path / "run", tmp_path / "model"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text("model: demo\n")
    with pytest.raises(RecipeError, match=r"is a run folder.*--resume. To train its model on: model="):
        subject_of(str(run))
    model.mkdir()
    (model / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"is a model. Expected data or a recipe. Write model=.* data=.rows.jsonl"):
        subject_of(str(model))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a b.csv", "a-b"),
        ("x/über.jsonl.zst", "über"),
        ("data/", "data"),
        ("hf://o/n", "n"),
        ("v1.2.parquet", "v1.2"),
        ("*.jsonl", "data"),
    ],
)
def test_the_name_of_a_run_is_a_name_of_a_folder(source, name):
    assert run_name(source) == name


@pytest.mark.slow
def test_plan_prepare_and_inspect_take_the_same_words(rows):
    assert instil.prepare(rows, model="demo", **{"data.heldout_share": 0}).ledger.rows_in == 40
    assert instil.inspect(rows, model="demo").ledger.rows_in == 40
    plan = instil.plan(rows, model="demo", adapter="lora")
    assert (plan.recipe.adapter.kind, plan.recipe.output) == ("lora", "runs/rows")
