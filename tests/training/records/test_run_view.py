"""A run in a notebook: finished, going on, stopped, damaged; it never raises and nothing of it can run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.views.parsed import assert_harmless, text_of

from instil.recipe import Recipe
from instil.training.records.run_folder import Run
from instil.views.turns import LINE


@pytest.fixture
def copied(reference: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference.folder, tmp_path / "run"))


def test_a_run_shows_settings_curve_and_results(reference: Run):
    page = reference._repr_html_()
    text = text_of(page)
    assert page.count("<svg") == 1
    for words in (
        "finished",
        "12 steps",
        "learning rate 0.005",
        "12 steps of 5 examples",
        "last held-out loss",
        "(lowest)",
    ):
        assert words in text, words
    assert f"{reference.results['heldout_loss']:.4f}" in text
    assert len(page) < 30_000
    line = repr(reference)
    assert line.startswith(f"Run({reference.folder}, finished, 12 steps, loss "[: LINE - 2])
    assert len(line) <= LINE


def test_a_run_that_goes_on_or_was_stopped_says_so(copied: Path):
    (copied / "results.json").unlink()
    run = Run.open(copied)
    assert "not finished" in repr(run)
    assert "stopped by SIGTERM" in repr(replace(run, signal=15))
    (copied / "metrics.jsonl").unlink()
    text = text_of(run._repr_html_())
    assert "no step yet" in text
    assert "0 steps" in text


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("metrics.jsonl", "5\n", "metrics.jsonl:1: a JSON int"),
        ("metrics.jsonl", '{"step": 1, "loss": "<script>"}\n{"step": "x", "loss": 1}\n[\n', "no step yet"),
        ("recipe.yaml", "", "no setting in it"),
        ("recipe.yaml", "a: [", "recipe.yaml"),
        ("recipe.yaml", "model: 5\n", "recipe.yaml"),
    ],
)
def test_what_is_damaged_is_named_in_the_view(copied: Path, file: str, content: str, words: str):
    run = Run.open(copied)
    (copied / file).write_text(content)
    assert words in text_of(run._repr_html_())
    assert len(repr(run)) <= LINE


def test_results_and_settings_of_any_kind_are_text(copied: Path):
    hostile = "<script>alert(1)</script>"
    recipe = Recipe.load(copied / "recipe.yaml").override({"model.name": hostile, "data.sources": [f"{hostile}.jsonl"]})
    (copied / "recipe.yaml").write_text(recipe.to_yaml())
    results = {"loss": hostile, "steps": None, "warnings": [{"text": hostile * 500}, 5], "best_heldout_loss": 1.5}
    run = replace(Run.open(copied), results=results)
    page = run._repr_html_()
    assert assert_harmless(page).text.count(hostile) > 2
    assert len(page) < 60_000
    assert_harmless(replace(run, results={"warnings": 5})._repr_html_())
