"""Claims about recipes: every setting described, saved and loaded without loss."""

from __future__ import annotations

import pytest

from instil.errors import RecipeError
from instil.recipe import Recipe, Settings


def test_overrides_win_over_the_file_and_leave_the_rest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {sources: rows.jsonl}\noptimizer: {lr: 2e-5, name: muon}\n")
    recipe = Recipe.load(path, {"optimizer": {"lr": 1e-4}})
    assert (recipe.optimizer.lr, recipe.optimizer.name) == (1e-4, "muon")
    assert recipe.data.sources[0].path == "rows.jsonl"
    assert recipe.output == "runs/mine"


def test_saved_recipe_loads_back_equal(tmp_path):
    recipe = Recipe.from_mapping({"data": {"sources": ["a.jsonl", {"path": "b", "rows": 7}]}, "training": {"seed": 3}})
    recipe.save(tmp_path / "saved.yaml")
    assert Recipe.load(tmp_path / "saved.yaml") == recipe


def test_saving_over_a_file_leaves_the_old_one_if_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "saved.yaml"
    Recipe().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(RecipeError, match=r"saved\.yaml: cannot be written \(full\)"):
        Recipe.from_mapping({"training": {"seed": 3}}).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved.yaml"]


def test_every_setting_is_described():
    groups, seen = [Recipe], 0
    while groups:
        group = groups.pop()
        assert group.__doc__, group
        for name, setting in group.model_fields.items():
            assert setting.description, f"{group.__name__}.{name}"
            seen += 1
            if isinstance(setting.annotation, type) and issubclass(setting.annotation, Settings):
                groups.append(setting.annotation)
    assert seen > 60


def test_schema_is_json():
    assert "optimizer" in Recipe.model_json_schema()["properties"]


def test_settings_page_is_what_the_recipe_says():
    from runpy import run_path

    from tests.corpus import ROOT

    page = run_path(str(ROOT / "docs" / "make_settings.py"))["page"]()
    assert (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8") == page, (
        "run: python docs/make_settings.py"
    )
