"""Claims about values of a wrong kind: no setting's error names a kind of Python, and short forms mean one setting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe, Settings
from instil.recipe.merging import SHORT_FORMS

WRONG: tuple[Any, ...] = (
    5,
    -1.5,
    "zz top",
    True,
    [],
    [5],
    [[]],
    {},
    {"a": 1},
    None,
    object(),
    Path("x"),
    "\ud800",
    1e400,
)
PYTHONS_WORDS = re.compile(
    r"dictionary|instance of|valid (integer|number|string|list|tuple|boolean|bool)|unable to parse|Tuple|NoneType|"
    r"pydantic|ModelSettings|Settings\b|object at 0x|should be a valid|Field required|callable|function-"
)


def every_setting() -> list[str]:
    names = []
    for group, field in Recipe.model_fields.items():
        kind = field.annotation
        names.append(group)
        if isinstance(kind, type) and issubclass(kind, Settings):
            names += [f"{group}.{name}" for name in kind.model_fields]
    return names


def refusal(values: Any) -> str:
    """Return the error about values, or nothing if they are allowed."""
    try:
        Recipe.from_mapping(values)
    except RecipeError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_no_error_about_a_wrong_kind_names_a_kind_of_python():
    refused = 0
    for name in every_setting():
        for value in WRONG:
            error = refusal({name: value})
            refused += bool(error)
            assert not PYTHONS_WORDS.search(error), error
            assert not error or name.split(".")[0] in error
            assert len(error) < 900
    assert refused > 400


@pytest.mark.parametrize("value", [5, "zz", [], None, object()])
def test_what_is_no_mapping_of_settings_is_named(value):
    with pytest.raises(RecipeError, match="Expected a mapping of settings"):
        Recipe().override(value)


def test_a_value_in_place_of_a_group_is_its_main_setting(tmp_path):
    file = tmp_path / "short.yaml"
    file.write_text(
        "model: demo\nadapter: lora\ndata: rows.jsonl\noptimizer: muon\nevaluate: 5\ncheckpoint: 6\n"
        "parallel: 2\ntracking: [wandb]\n"
    )
    recipe = Recipe.load(file)
    assert (recipe.model.name, recipe.adapter.kind, recipe.data.sources[0].path) == ("demo", "lora", "rows.jsonl")
    assert (recipe.optimizer.name, recipe.evaluate.every, recipe.checkpoint.every) == ("muon", 5, 6)
    assert (recipe.parallel.processes, recipe.tracking.to) == (2, ["wandb"])
    assert set(SHORT_FORMS) == {
        group for group in Recipe.model_fields if group not in ("output", "threads", "device", "training", "sweep")
    }


def test_short_forms_keep_the_other_settings_of_their_group():
    recipe = Recipe.from_mapping(
        {"model": {"name": "a", "template": "chatml"}, "data": {"sources": "a", "max_tokens": 9}}
    )
    changed = recipe.override({"model": "demo", "data": ["b", "c"]})
    assert (changed.model.name, changed.model.template, changed.data.max_tokens) == ("demo", "chatml", 9)
    assert [source.path for source in changed.data.sources] == ["b", "c"]


def test_a_path_is_text():
    assert Recipe.from_mapping({"model": Path("runs/demo")}).model.name == "runs/demo"
