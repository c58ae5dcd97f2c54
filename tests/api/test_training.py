"""Training from Python: rows from memory, settings with dots, following a run and leaving it."""

from __future__ import annotations

import pytest

import instil
from instil.cli.settings import load_recipe
from instil.errors import RecipeError, RunError
from instil.training.events import Ended, Evaluated, StepTaken

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]
SETTINGS = {
    "model": "demo",
    "training": {"max_steps": 4, "batch_size": 2},
    "evaluate.every": 2,
    "evaluate.max_new_tokens": 2,
    "data.heldout_share": 0.1,
    "threads": 1,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_a_run_that_nobody_follows_any_more_is_saved_and_resumed_with_the_same_rows():
    events = []
    for event in instil.train(data=(row for row in ROWS), output="runs/x", quiet=True, follow=True, **SETTINGS):
        events.append(event)
        if isinstance(event, StepTaken) and event.step == 3:
            break
    assert [(type(event), event.step) for event in events] == [
        (Evaluated, 0),
        (StepTaken, 1),
        (StepTaken, 2),
        (Evaluated, 2),
        (StepTaken, 3),
    ]
    run = instil.Run.open("runs/x")
    assert not run.finished
    assert [line["step"] for line in run.metrics() if "loss" in line] == [1, 2, 3]
    with pytest.raises(RecipeError, match="came from a Python program"):
        load_recipe("runs/x/recipe.yaml", {})
    assert "instil.train(recipe, data=rows)" in (run.folder / "recipe.yaml").read_text()
    with pytest.raises(RunError, match=r"data\.sources is"):
        instil.train(data=ROWS[::-1], output="runs/x", quiet=True, resume=True, **SETTINGS)
    last = list(instil.train(data=ROWS, output="runs/x", quiet=True, resume=True, follow=True, **SETTINGS))
    assert [type(event) for event in last] == [StepTaken, Evaluated, Ended]
    assert last[-1].run.finished
    # The same rows without an interruption, by another kind of source: the same losses.
    whole = instil.train(data=list(instil.read(ROWS)), output="runs/y", quiet=True, **SETTINGS)
    assert losses(whole) != []
    again = instil.train(data=ROWS, output="runs/z", quiet=True, **SETTINGS)
    assert losses(again) == losses(instil.Run.open("runs/x")) == losses(whole)


def losses(run: instil.Run) -> list[float]:
    return [line["loss"] for line in run.metrics() if "loss" in line]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: instil.train(5), "found int 5"),
        (lambda: instil.train({1}, data=ROWS), "the data is named twice"),
        (lambda: instil.train("missing.yaml"), "no such recipe file"),
        (lambda: instil.train(data=ROWS, **{"optimizer.ltr": 1}), "did you mean 'lr'"),
        (lambda: instil.train(data=ROWS, **{"optimiser.lr": 1}), "did you mean 'optimizer'"),
        (lambda: instil.train(data=ROWS, training=5), "Input should be a mapping"),
        (lambda: instil.train(data=ROWS, model="demo", **{"model.name": "demo"}), "model.name: found twice"),
        (lambda: instil.train(data={"sources": ["a.jsonl"]}, **{"data.sources": ["b.jsonl"]}), "data.sources: found"),
        (lambda: instil.Recipe.load(3), "found 3"),
        (lambda: instil.Recipe.from_mapping([1]), "found [1]"),
        (lambda: instil.Recipe().override({3: 1}), "the key 3"),
        (lambda: instil.Recipe().override({"optimizer.lr": "high"}), "optimizer.lr"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_written(call, words, tmp_path):
    with pytest.raises(RecipeError) as error:
        call()
    assert words in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_settings_may_have_dots_or_be_nested():
    recipe = instil.Recipe().override({"optimizer.lr": 1e-3, "optimizer": {"clip": None}, "model": "demo"})
    assert (recipe.optimizer.lr, recipe.optimizer.clip, recipe.model.name) == (1e-3, None, "demo")
    template = recipe.override({"model.template": "chatml"}).override({"model": {"stop_token": "eos"}})
    assert (template.model.name, template.model.template, template.model.stop_token) == ("demo", "chatml", "eos")


def test_the_short_form_of_a_model_keeps_its_name_under_an_override(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: other/model\n")
    recipe = instil.Recipe.load("recipe.yaml", {"model": {"template": "chatml"}})
    assert (recipe.model.name, recipe.model.template) == ("other/model", "chatml")
