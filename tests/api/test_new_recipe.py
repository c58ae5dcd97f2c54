"""Claims about a recipe that is written for a model and data: it fits both, says why, and trains as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.training.command_line import exit_code, make_base

from instil.api.new_recipe import new_recipe
from instil.errors import DataError, RecipeError
from instil.recipe import Recipe
from instil.training.records.run_folder import Run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_rows(file: Path, count: int, *, words: int = 3) -> str:
    answer = "word " * words
    file.write_text("".join(json.dumps({"question": f"{n}+1?", "answer": f"{answer}{n}"}) + "\n" for n in range(count)))
    return file.name


@pytest.mark.slow
@pytest.mark.long
def test_the_file_trains_as_it_stands(place, tiny):
    rows = write_rows(place / "rows.jsonl", 24)
    text = new_recipe(rows, model=str(tiny)).text("mine.yaml")
    (place / "mine.yaml").write_text(text)
    assert exit_code("train", "mine.yaml") == 0
    run = Run.open(place / "runs" / "mine")
    assert run.finished
    assert run.results["steps"] >= 10


def test_every_choice_has_its_reason(place, tiny):
    made = new_recipe(write_rows(place / "rows.jsonl", 400), model=str(tiny))
    recipe = made.recipe
    assert recipe.adapter.kind == "none"
    assert made.comments["adapter.kind"].startswith("Full fine-tuning needs about")
    assert recipe.optimizer.lr == 1e-3
    assert "The default for full fine-tuning of" in made.comments["optimizer.lr"]
    assert recipe.data.max_tokens is not None
    assert recipe.data.max_tokens % 64 == 0
    assert (recipe.training.batch_size, recipe.training.epochs, recipe.data.heldout_share) == (8, 3, 0.1)
    text = made.text("mine.yaml")
    assert yaml.safe_load(text)["data"]["sources"] == ["rows.jsonl"]
    lines = text.splitlines()
    for name in ("kind: none", "lr: 0.001", "epochs: 3.0", "batch_size: 8", "heldout_share: 0.1"):
        at = next(number for number, line in enumerate(lines) if line.strip() == name)
        assert lines[at - 1].strip().startswith("# "), name


@pytest.mark.slow
def test_lora_is_chosen_where_full_fine_tuning_does_not_fit(place, tiny, monkeypatch):
    rows = write_rows(place / "rows.jsonl", 40)
    needs = {}
    from instil.api import new_recipe as module

    real = module._memory_of

    def noted(location, adapter, **others):
        memory, parameters = real(location, adapter, **others)
        needs[adapter] = memory.peak
        return memory, parameters

    monkeypatch.setattr(module, "_memory_of", noted)
    new_recipe(rows, model="demo", adapter="lora")
    new_recipe(rows, model="demo", adapter="none")
    assert needs["lora"] < needs["none"]
    between = (needs["lora"] + needs["none"]) // 2
    monkeypatch.setattr("instil.training.memory.usage.free_memory", lambda device: round(between / 0.9))
    made = new_recipe(rows, model="demo")
    assert made.recipe.adapter.kind == "lora"
    assert "Full fine-tuning would need about" in made.comments["adapter.kind"]
    assert made.recipe.optimizer.lr is not None
    assert made.recipe.optimizer.lr > 1e-3
    monkeypatch.setattr("instil.training.memory.usage.free_memory", lambda device: 1000)
    with pytest.raises(RecipeError, match=r"demo: does not fit into memory: Full fine-tuning needs .* and LoRA needs"):
        new_recipe(rows, model="demo")


def test_rows_that_cannot_be_used_are_left_out_and_named(place, tiny):
    rows = write_rows(place / "rows.jsonl", 30)
    with (place / rows).open("a") as file:
        file.write('{"nothing": "here"}\n')
    made = new_recipe(rows, model=str(tiny))
    assert made.recipe.data.on_bad_row == "skip"
    assert "1 row cannot be used; the first: rows.jsonl:31" in made.comments["data.on_bad_row"]
    (place / "bad.jsonl").write_text('{"nothing": "here"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl: no row can be trained; the first error: bad\.jsonl:1"):
        new_recipe("bad.jsonl", model=str(tiny))


@pytest.mark.slow
def test_the_model_s_context_is_the_limit(place):
    rows = write_rows(place / "rows.jsonl", 20, words=10)
    with (place / rows).open("a") as file:
        file.write(json.dumps({"question": "long?", "answer": "word " * 3000}) + "\n")
    made = new_recipe(rows, model="demo")
    assert made.recipe.data.max_tokens == 1024
    assert "95% of the examples fit" in made.comments["data.max_tokens"]
    too_long = write_rows(place / "long.jsonl", 3, words=3000)
    with pytest.raises(RecipeError, match="every sampled example is longer than the model's context"):
        new_recipe(too_long, model="demo")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"data": "-"}, "standard input can be read once only"),
        ({"data": "full"}, "full: is a recipe. Expected data"),
        ({"data": "rows.jsonl", "adapter": "qlora"}, "Expected none or lora"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ],
)
def test_wrong_words_are_named(place, words, reason):
    write_rows(place / "rows.jsonl", 5)
    with pytest.raises((RecipeError, DataError), match=reason):
        new_recipe(words.pop("data"), **words)


@pytest.mark.slow
def test_it_is_an_ordinary_recipe(place, tiny):
    text = new_recipe(write_rows(place / "rows.jsonl", 30), model=str(tiny), adapter="lora").text("x.yaml")
    (place / "x.yaml").write_text(text)
    recipe = Recipe.load(place / "x.yaml")
    assert (recipe.adapter.kind, recipe.output) == ("lora", "runs/x")
