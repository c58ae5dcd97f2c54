"""Claims about the errors of a recipe: each names the key, what was found and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("optimiser:\n  lr: 1e-4\n", "unknown key 'optimiser' (did you mean 'optimizer'?)"),
        ("data:\n  sources: [{path: a.jsonl, formt: alpaca}]\n", "'data.sources.0.formt' (did you mean 'format'?)"),
        ("training: {lr: 1e-4}\n", "unknown key 'training.lr' (did you mean 'optimizer.lr'?)"),
        ("base_model: demo\n", "unknown key 'base_model' (what other tools call 'base_model' is model.name here)"),
        ("training: {packing: true}\n", "'training.packing' (not needed: examples are always laid end to end"),
        ("training:\n  batch_size: 0\n", "training.batch_size: found 0"),
        ("training:\n  micro_batch_tokens: lots\n", "training.micro_batch_tokens: found 'lots'"),
        ("training:\n  precision: int3\n", "training.precision: found 'int3'"),
        ("optimizer:\n  lr: fast\n", "optimizer.lr: found 'fast'"),
        ("data: {sources: [{pth: a.jsonl}]}\n", "'data.sources.0.pth' (did you mean 'path'?)"),
        ("data: {sources: [5]}\n", "data.sources.0: found 5. Input should be a mapping of settings"),
        ("data: {sources: ['']}\n", "data.sources.0.path: found ''"),
        ("data: {sources: [{path: a, rows: true}]}\n", "data.sources.0.rows: found True. Input should be a number"),
        ("data: {sources: [{path: a, weight: .inf}]}\n", "data.sources.0.weight: found inf. Input should be a finite"),
        ("optimizer: {lr: true}\n", "optimizer.lr: found True. Input should be a number"),
        ("data: {date: 2024-13-01}\n", "data.date: found '2024-13-01'. Input should be a day such as"),
        ("data: {sources: [{path: a, format: alpaca, columns: {assistant: x}}]}\n", "not alpaca. Leave out one"),
        ("data: {sources: [{path: a, format: pattern}]}\n", "Format pattern needs columns"),
        (
            "model: {name: demo}\ntraining: {micro_batch_tokens: 0}",
            "training.micro_batch_tokens: found 0. Input should be greater than or equal to 1",
        ),
    ],
)
def test_wrong_settings_are_named_with_their_remedy(tmp_path, yaml, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml)
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": {"betas": [1.0, 0.9]}}, "optimizer.betas.0: found 1.0. Input should be less than 1"),
        ({"optimizer": {"betas": [0.9, -0.1]}}, "optimizer.betas.1: found -0.1. Input should be greater than or"),
        ({"training": {"seed": 2**63}}, "training.seed: found 9223372036854775808. Input should be less than or"),
        ({"threads": 100_000}, "threads: found 100000. Input should be less than or equal to 1024"),
        ({"parallel": {"timeout_minutes": 1e12}}, "parallel.timeout_minutes: found 1000000000000.0. Input should be"),
        ({"model": {"name": ""}}, "model.name: found ''. String should have at least 1 character"),
        (
            {"model": {"initialise": "random", "quantize": "4bit"}},
            "model.quantize: found '4bit'. Random weights are not",
        ),
        ({"adapter": {"kind": "lora", "targets": []}}, "targets: found []. Input should be all-linear or names of"),
        (
            {"checkpoint": {"final": "best", "keep_best": False}},
            "checkpoint.final: found 'best'. That checkpoint is not",
        ),
    ],
)
def test_impossible_settings_are_refused_when_the_recipe_is_read(settings: dict[str, Any], reason: str):
    with pytest.raises(RecipeError) as raised:
        Recipe.from_mapping(settings)
    assert reason in str(raised.value)
