"""Settings that are allowed and rarely meant have a warning with their figure."""

from __future__ import annotations

from typing import Any

import pytest

from instil.recipe import Recipe
from instil.training.setting_warnings import setting_warnings
from instil.training.step.order import plan_order


@pytest.mark.parametrize(
    ("settings", "num_steps", "expected"),
    [
        ({"optimizer": {"lr": 2e-5}}, 20, []),
        ({"optimizer": {"lr": 5e-4}}, 20, []),
        ({"optimizer": {"lr": 1e-3}}, 20, [("learning_rate", 1e-3)]),
        ({"optimizer": {"lr": 2e-3}, "adapter": {"kind": "lora"}}, 20, []),
        ({"optimizer": {"lr": 2e-2}, "adapter": {"kind": "lora"}}, 20, [("learning_rate", 2e-2)]),
        ({"optimizer": {"lr": 1e-6}, "adapter": {"kind": "lora"}}, 20, [("learning_rate", 1e-6)]),
        ({"optimizer": {"lr": 2e-2, "name": "muon"}}, 20, []),
        ({"optimizer": {"lr": 2e-5}, "training": {"batch_size": 50}}, 20, [("batch_beyond_data", 40)]),
        ({"optimizer": {"lr": 2e-5}}, 9, [("few_steps", 9)]),
        ({"optimizer": {"lr": 2e-5}, "training": {"max_steps": 10, "batch_size": 1}}, 10, [("part_of_an_epoch", 0.25)]),
        ({"optimizer": {"lr": 2e-5}, "training": {"batch_size": 1, "epochs": 0.25}}, 10, []),
        ({"optimizer": {"lr": 2e-5}, "training": {"max_steps": 40, "batch_size": 1}}, 40, []),
    ],
)
def test_settings_that_are_rarely_meant(
    settings: dict[str, Any], num_steps: int, expected: list[tuple[str, float]]
) -> None:
    recipe = Recipe.from_mapping(settings)
    order = plan_order(40, batch_size=recipe.training.batch_size, max_steps=num_steps)
    assert [
        (warning.kind, warning.figure) for warning in setting_warnings(recipe, order, num_parameters=7_000_000_000)
    ] == expected


def test_a_rate_that_moves_a_small_model_hardly_is_a_warning():
    order = plan_order(40, batch_size=1, max_steps=20)
    recipe = Recipe.from_mapping({"optimizer": {"lr": 2e-5}})
    (warning,) = [w for w in setting_warnings(recipe, order, num_parameters=3_000_000) if w.kind == "learning_rate"]
    assert (
        "times the default for full fine-tuning of 3.0M parameters (0.001); the model will hardly change"
        in warning.text
    )
