"""Claims about ``--model``, ``--data`` and ``--adapter``: the same for every verb, and never a library's words in an error."""

from __future__ import annotations

import re
from typing import Literal, get_origin

import pytest
import yaml
from tests.cli.test_main import run
from tests.training.command_line import exit_code

from instil.cli.short_options import FIRST
from instil.training.records.run_folder import Run

LIBRARY_WORDS = re.compile(
    r"unable to convert|requires an argument|positional|Invalid value|Unknown option|specified multiple|"
    r"parameter --|into (int|float)|valid dictionary|instance of|valid integer|valid number"
)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replace the training; return the recipes that reached it."""
    recipes = []
    monkeypatch.setattr(
        "instil.training.run.train", lambda recipe, *, resume, quiet: recipes.append(recipe) or Run(tmp_path, True, {})
    )
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n' * 30)
    (tmp_path / "mine.yaml").write_text("model: demo\ntraining: {epochs: 2}\n")
    return recipes


@pytest.mark.parametrize(
    "words",
    [
        ["rows.jsonl", "--model", "demo", "--adapter", "lora"],
        ["--model", "demo", "rows.jsonl", "--adapter=lora"],
        ["--model", "demo", "--data", "rows.jsonl", "--adapter", "lora"],
        ["--adapter", "lora", "--data.sources", "rows.jsonl"],
        ["--adapter.kind", "lora", "--adapter.targets", "all-linear", "rows.jsonl"],
    ],
)
def test_train_needs_no_recipe(trained, words):
    assert exit_code("train", *words) == 0
    (recipe,) = trained
    assert [source.path for source in recipe.data.sources] == ["rows.jsonl"]
    assert (recipe.model.name, recipe.adapter.kind, recipe.output) == ("demo", "lora", "runs/rows")


@pytest.mark.parametrize(
    ("words", "epochs", "output"),
    [
        (["mine.yaml", "--data", "rows.jsonl"], 2, "runs/mine"),
        (["--data", "rows.jsonl", "mine.yaml"], 2, "runs/mine"),
        (["--recipe", "mine.yaml", "--data", "rows.jsonl"], 2, "runs/mine"),
        (["full", "--data", "rows.jsonl"], 3, "runs/full"),
        (["--data", "rows.jsonl", "full"], 3, "runs/full"),
    ],
)
def test_a_recipe_and_data_are_told_apart(trained, words, epochs, output):
    assert exit_code("train", *words) == 0
    (recipe,) = trained
    assert ([source.path for source in recipe.data.sources], recipe.training.epochs) == (["rows.jsonl"], epochs)
    assert recipe.output == output


@pytest.mark.slow
def test_save_recipe_writes_what_was_set_and_trains_the_same(trained, tmp_path, capsys):
    saved = tmp_path / "saved.yaml"
    words = ["rows.jsonl", "--adapter", "lora", "--optimizer.lr", "3e-4", "--save-recipe", str(saved)]
    assert exit_code("train", *words) == 0
    text = saved.read_text()
    assert set(yaml.safe_load(text)) == {"output", "adapter", "data", "optimizer"}
    assert "# Peak learning rate." in text
    assert exit_code("train", str(saved)) == 0
    assert trained[0] == trained[1]
    assert exit_code("train", *words) == 0  # what is there already is the same
    assert exit_code("train", "rows.jsonl", "--save-recipe", str(saved)) == 2
    assert "exists, and is not overwritten" in capsys.readouterr().err
    assert saved.read_text() == text
    assert exit_code("train", "rows.jsonl", "--save-recipe", "saved.txt") == 2
    assert len(trained) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("train rows.jsonl --data rows.jsonl", "rows.jsonl: the data is named twice"),
        ("train", "data.sources: found none. Expected data to train on"),
        ("train full", "data.sources: found none"),
        ("train --model", "--model.name has no value"),
        ("train rows.jsonl --optimizer.betas 1", "--optimizer.betas has 1 of 2 values"),
        ("train rows.jsonl --training zz", "training: found 'zz'. Input should be a mapping of settings"),
        (
            "train rows.jsonl --training.batch-size abc",
            "--training.batch-size: found 'abc'. Input should be a whole number.",
        ),
        ("plan recipes/full.yaml --data rows.jsonl", "no such recipe file. A recipe of that name ships: write full."),
        ("plan mime.yaml", "no such recipe file (did you mean 'mine.yaml'?)"),
        ("plan rows.jsonl --adapter qlora", "QLoRA is lora with model.quantize: 4bit"),
        ("plan rows.jsonl --adapter full", "none trains every weight"),
        ("chat demo --adapter lora", "An adapter's folder is a model: name it with --model."),
        ("inspect demo", "demo: is a model. Expected data or a recipe"),
        ("inspect rows.jsnl", "neither a recipe nor data (did you mean 'rows.jsonl'?)"),
        ("chat demo --model demo", "found 'demo' besides --model. Expected the model once"),
        ("chat --model demo --model x", "--model occurs twice"),
        ("export --model", "--model has no value"),
        ("export runs/x out --model runs/y", "found 'out' besides --model"),
        ("convert out.jsonl --data", "--data has no value"),
        (
            "generate demo --prompts rows.jsonl --out o.jsonl --limit abc",
            "--limit: found 'abc'. Expected a whole number.",
        ),
        ("serve demo --port", "--port has no value"),
        ("chat demo --load 9bit", "--load: found '9bit'. Expected none, 4bit or 8bit (did you mean '8bit'?)"),
        ("chat demo --systm x", "unknown option --systm (did you mean '--system'?)"),
        ("evaluate demo --limt 3", "unknown option --limt (did you mean '--limit'?)"),
        ("template prove", "found no template and no model"),
        ("template prove demo --model demo", "Expected one model"),
    ],
)
def test_a_wrong_command_is_one_line_in_plain_words(trained, capsys, words, reason):
    code, _, err = run(capsys, *words.split())
    assert code == 2
    assert err.count("\n") == 1
    assert reason in err
    assert not LIBRARY_WORDS.search(err.partition(" Run:")[0]), err
    assert trained == []


@pytest.mark.slow
@pytest.mark.long
def test_no_option_of_any_verb_answers_a_wrong_value_in_a_library_s_words(trained, capsys):
    """Every option of every verb, without a value and with one of a wrong kind."""
    from instil.cli.main import VERBS, build_app

    firsts = {"convert": ["rows.jsonl", "out.jsonl"], "export": ["nowhere/x", "out"], "serve": ["nowhere/x"]}
    tried = 0
    for verb in sorted({*FIRST, "train", "inspect"} & {name for name, _, _ in VERBS}):
        first = firsts.get(verb, ["rows.jsonl"])
        for argument in build_app(verb)[verb].assemble_argument_collection():
            names = [name for name in argument.names if name.startswith("--") and "empty-" not in name]
            if not argument.parse or not names or argument.token_count()[0] == 0:
                continue
            is_checked = argument.hint in (int, float) or get_origin(argument.hint) is Literal
            for words in ([names[0]], [names[0], "zz!"]) if is_checked else ([names[0]],):
                code, _, err = run(capsys, verb, *first, *words)
                assert code == 2, (verb, words)
                assert not LIBRARY_WORDS.search(err.partition(" Run:")[0]), err
                tried += 1
    assert tried > 100


@pytest.mark.slow
def test_a_model_or_data_may_be_an_option_where_it_stands_first(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n' * 3)
    assert run(capsys, "convert", "out.jsonl", "--data", "rows.jsonl", "--to", "sharegpt")[0] == 0
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 3
    code, out, _ = run(capsys, "inspect", "--data", "rows.jsonl", "--model", "demo")
    assert code == 0
    assert "question_answer" in out
    code, out, _ = run(capsys, "template", "prove", "--model", "demo")
    assert code == 0
