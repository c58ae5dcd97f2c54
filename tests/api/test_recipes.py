"""The recipe of a public call: rows from memory for every source, beside paths and in settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import instil
from instil.api.recipes import recipe_of
from instil.errors import DataError, RecipeError
from instil.generation.prompts import select_prompts

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(8)]
HELD = ROWS[:2]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))


def kinds() -> dict[str, Any]:
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    return {
        "list": HELD,
        "conversations": list(instil.read(HELD)),
        "generator": (row for row in HELD),
        "dataset": datasets.Dataset.from_list(HELD),
        "iterable dataset": datasets.Dataset.from_list(HELD).to_iterable_dataset(),
        "frame": pandas.DataFrame(HELD),
    }


@pytest.mark.slow
def test_held_out_rows_may_be_anything_that_rows_may_be() -> None:
    for name, rows in kinds().items():
        recipe = recipe_of(None, data=ROWS, settings={"data.heldout": rows})
        assert [source.path.partition(":")[0] for source in recipe.data.heldout] == ["rows"], name
        assert recipe.data.heldout != recipe.data.sources
        assert recipe.has_memory_rows


def test_rows_may_stand_wherever_a_source_is_expected() -> None:
    from_data = recipe_of(None, data=ROWS, settings={"data.heldout": HELD})
    assert from_data == recipe_of(None, data={"sources": ROWS, "heldout": HELD})
    assert from_data == recipe_of(None, settings={"data.sources": ROWS, "data": {"heldout": HELD}})
    assert from_data == recipe_of({"data": {"sources": ROWS}, "data.heldout": HELD})
    assert from_data == recipe_of({"data.sources": HELD}, data=ROWS, settings={"data.heldout": HELD})


def test_data_stands_first_in_a_call_whatever_it_is() -> None:
    for name, rows in kinds().items():
        expected = recipe_of(None, data=HELD if name == "generator" else rows)
        assert recipe_of(rows) == expected, name
    mixed = ["a.jsonl", Path("b.jsonl"), kinds()["frame"]]
    assert recipe_of(mixed) == recipe_of(None, data=mixed)
    assert recipe_of({"sources": ROWS}) == recipe_of(None, data={"sources": ROWS})
    with pytest.raises(RecipeError, match=r"^rows: the data is named twice\. Expected it once"):
        recipe_of(ROWS, data=HELD)


def test_reading_takes_a_list_of_paths_and_tables_too(tmp_path: Path) -> None:
    instil.write(HELD, tmp_path / "held.jsonl")
    both = [tmp_path / "held.jsonl", kinds()["frame"]]
    assert [str(row.place) for row in instil.read(both)][1:3] == [f"{tmp_path / 'held.jsonl'}:2", "rows[0]"]
    prompts, selection = select_prompts(both)
    assert len(prompts) == selection.total == 4
    assert len(select_prompts([both[1]])[0]) == 2


def test_a_recipe_where_only_data_can_stand_is_named() -> None:
    for call in (lambda: recipe_of(None, data=instil.Recipe()), lambda: instil.read(instil.Recipe())):
        with pytest.raises(DataError, match=r"found a Recipe\. Expected data\."):
            call()


def test_a_list_may_hold_paths_and_tables() -> None:
    table = kinds()["dataset"]
    saved = recipe_of(None, data=table).data.sources[0].path
    recipe = recipe_of(None, data=["rows.jsonl", table, Path("more.jsonl"), HELD])
    assert [source.path for source in recipe.data.sources] == ["rows.jsonl", saved, "more.jsonl", saved]
    assert [source.path for source in recipe_of(None, data=[table, table]).data.sources] == [saved, saved]


def test_settings_of_a_source_are_no_rows() -> None:
    recipe = recipe_of(None, settings={"data.sources": [{"path": "a.jsonl", "repeat": 2}, "b.jsonl"]})
    assert [(source.path, source.repeat) for source in recipe.data.sources] == [("a.jsonl", 2), ("b.jsonl", 1)]
    assert not recipe.has_memory_rows


@pytest.mark.parametrize(
    ("settings", "error", "found"),
    [
        ({"data.heldout": 5}, DataError, r"^data\.heldout: found a number\. Expected a path, or rows"),
        ({"data.heldout": [5]}, DataError, r"^rows\[0\]: found a number"),
        ({"data.heldout": ["a.jsonl", 5]}, DataError, r"^data\.heldout: found a number"),
        ({"data.heldout": {"paht": "a.jsonl"}}, RecipeError, r"data\.heldout"),
        ({"data": {"heldout": HELD}, "data.heldout": HELD}, RecipeError, r"^data\.heldout: found twice"),
    ],
)
def test_what_is_neither_path_nor_rows_is_named_with_its_setting(
    settings: dict[str, Any], error: type[instil.InstilError], found: str
) -> None:
    with pytest.raises(error, match=found):
        recipe_of(None, data=ROWS, settings=settings)


def test_a_set_of_splits_is_named_as_what_it_is() -> None:
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict(test=datasets.Dataset.from_list(HELD))
    with pytest.raises(DataError, match=r"^data\.heldout: found a DatasetDict with the splits 'test'"):
        recipe_of(None, data=ROWS, settings={"data.heldout": splits})


def test_held_out_rows_are_measured_and_those_that_are_trained_too_are_said() -> None:
    prepared = instil.prepare(data=ROWS[2:], **{"data.heldout": HELD})
    assert (len(prepared.train), len(prepared.heldout)) == (6, 2)
    assert {str(prepared.heldout[0].place), str(prepared.heldout[1].place)} == {"rows[0]", "rows[1]"}
