"""`prepare`, `inspect` and `plan` from Python see what training sees, and refuse a wrong argument in words."""

from __future__ import annotations

import pytest
from tests.views.parsed import text_of

import instil
from instil.api.recipes import recipe_of
from instil.cli.main import main

ROWS = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_rows_are_prepared_once():
    prepared = instil.prepare(data=ROWS, **{"data.heldout_share": 0.25})
    assert (prepared.ledger.rows_in, prepared.reused) == (40, False)
    assert str(prepared.train[0].place).startswith("rows[")
    assert instil.prepare(data=(dict(row) for row in ROWS), **{"data.heldout_share": 0.25}).reused
    assert not instil.prepare(data=ROWS[:-1], **{"data.heldout_share": 0.25}).reused


@pytest.mark.slow
def test_worker_processes_make_the_same_store():
    one = instil.prepare(data=ROWS, workers=1)
    two = instil.prepare(data=ROWS, workers=2, refresh=True)
    assert [list(example.token_ids) for example in one.train] == [list(example.token_ids) for example in two.train]


def test_inspect_counts_what_training_counts_and_shows_rows_by_their_index():
    result = instil.inspect([*ROWS, {"question": "empty?", "answer": ""}], keep_rows=3)
    assert result.ledger.rows_in == 41
    assert {str(finding.place) for finding in result.findings} >= {"rows[40]"}
    assert sum(result.counts.values()) >= 1
    shown = list(result.rows)
    assert len(shown) == 3
    assert str(shown[-1].place) == "rows[40]"
    row = result.row("rows[2]")
    assert str(row.place) == "rows[2]"
    assert "".join(token.text for token in row.examples[0].tokens if token.weight).startswith("3")
    assert "rows" in repr(result)


@pytest.mark.slow
def test_inspect_names_the_data_of_a_recipe(tmp_path):
    """Only rows of a program are rows from memory; a recipe's data has the names of its sources."""
    paths = [str(tmp_path / name) for name in ("one.jsonl", "two.jsonl")]
    for path in paths:
        instil.write(ROWS[:2], path)

    def name_of(data):
        return instil.inspect(data).to_json()["data"]

    recipe = instil.Recipe.from_mapping({"model": "demo", "data": {"sources": paths}})
    assert name_of(recipe) == name_of(paths) == f"{paths[0]}, {paths[1]}"
    assert name_of(paths[0]) == paths[0]
    assert name_of(ROWS[:2]) == "rows from memory"
    assert name_of(recipe_of(None, data=ROWS[:2], settings={"model": "demo"})) == "rows from memory"


@pytest.mark.parametrize("verb", ["train", "prepare"])
def test_rows_of_a_program_are_named_as_such_in_errors(verb):
    with pytest.raises(instil.InstilError, match=r"^rows from memory: no row is left") as caught:
        getattr(instil, verb)(data=[{"text": ""}] * 3, **{"data.on_bad_row": "skip"})
    assert "rows:" not in str(caught.value)


@pytest.mark.slow
def test_what_was_inspected_shows_itself_in_a_notebook():
    hostile = "<script>alert(1)</script>"
    result = instil.inspect([*ROWS, {"question": hostile, "answer": ""}, {"question": hostile, "answer": hostile}])
    text = text_of(result._repr_html_())
    for words in ("42 rows", "rows[40]", "empty answer", "rows in", "remove it"):
        assert words in text, words
    row = result.row("rows[41]")
    assert text_of(row._repr_html_()).count(hostile) == 2
    assert "⟦<script>" in text_of(row._repr_html_())
    assert repr(row).startswith("ShownRow(rows[41], row 42, ")
    assert result.row(42) == row
    assert "rows[41], row 42" in text_of(row._repr_html_())
    assert text_of(row.examples[0]._repr_html_()).count(hostile) == 2
    assert len(repr(result.row("rows[40]"))) <= 120
    assert "nothing was found" in instil.inspect(ROWS[:2])._repr_html_()


def test_pairs_are_inspected_with_their_sides():
    rows = [{"prompt": "Name a river.", "chosen": "The Nile.", "rejected": "I do not like rivers."}]
    result = instil.inspect(rows, objective="dpo")
    assert (result.ledger.reading, result.ledger.chosen.count) == ("pairs", 1)
    assert [example.side for example in result.row(1).examples] == ["chosen", "rejected"]
    (row,) = result.rows
    assert [example.side for example in row.examples] == ["chosen", "rejected"]
    assert result.to_json()["rejected_tokens"]["count"] == 1
    assert "rejected" not in str(instil.inspect(rows, objective="sft").row(1))
    with pytest.raises(instil.RecipeError, match=r"training\.objective: found 'dpq'"):
        instil.inspect(rows, objective="dpq")


@pytest.mark.slow
def test_plan_has_the_steps_the_memory_and_the_disk():
    plan = instil.plan(data=ROWS, **{"training.max_steps": 5, "training.batch_size": 4})
    assert (plan.steps, plan.batch_size) == (5, 4)
    assert plan.fit.memory.peak > 0 < plan.disk.total
    assert plan.trained_tokens < plan.tokens
    assert plan.prepared.ledger.rows_in > 0
    assert "verdict" in repr(plan)


@pytest.mark.parametrize("wrong", [5, None, [1], {"a": 1}, b"x", object(), float("nan")])
def test_a_wrong_argument_is_an_error_in_words(wrong):
    for call in (instil.inspect, instil.prepare, instil.plan):
        with pytest.raises(instil.InstilError):
            call(wrong)
    with pytest.raises(instil.InstilError, match="Expected"):
        instil.inspect(ROWS, keep_rows=-1 if wrong == 5 else wrong)


@pytest.mark.parametrize("verb", ["train", "plan", "prepare", "inspect"])
def test_the_command_line_refuses_rows_of_a_program(verb, tmp_path, capsys):
    recipe_of(None, data=ROWS).save(tmp_path / "recipe.yaml")
    with pytest.raises(SystemExit) as end:
        main([verb, "recipe.yaml"])
    assert end.value.code == 2
    assert "its rows came from a Python program" in capsys.readouterr().err
