"""Claims about the settings of the data: what holds for every source, and for one."""

from __future__ import annotations

from instil.recipe import Recipe


def test_format_and_columns_hold_for_every_source_that_names_neither():
    recipe = Recipe.from_mapping(
        {"data": {"format": "sharegpt", "sources": ["a", {"path": "b", "format": "auto"}], "heldout": ["c"]}}
    )
    assert [source.format for source in (*recipe.data.sources, *recipe.data.heldout)] == [
        "sharegpt",
        "auto",
        "sharegpt",
    ]
    columns = {"assistant": "{b}"}
    recipe = Recipe.from_mapping({"data": {"columns": columns, "sources": ["a", {"path": "b", "format": "alpaca"}]}})
    assert [source.columns for source in recipe.data.sources] == [columns, {}]
    assert Recipe.from_mapping(recipe.model_dump()) == recipe
