from __future__ import annotations

from typing import Any

import pytest
from tests.data.formats.rows import PLACE, sides

from instil.data.formats import ReadOptions, read_row
from instil.errors import FormatError, RecipeError

TUNING: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "question_answer": {"question": "q", "answer": "a"},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "text": {"text": "t"},
}


@pytest.mark.parametrize("name", TUNING)
def test_a_row_with_one_answer_is_refused_and_the_columns_are_named(name: str) -> None:
    with pytest.raises(
        FormatError, match=rf"{PLACE}: found {name} .* one answer.*chosen and rejected.*scores"
    ) as pairs:
        sides(TUNING[name])
    assert "objective: sft" in str(pairs.value)
    with pytest.raises(
        FormatError, match=rf"{PLACE}: found {name} .* a label of true or false; or chosen and rejected"
    ):
        sides(TUNING[name], "judged")


def test_a_misspelt_column_is_named() -> None:
    with pytest.raises(FormatError, match="did you mean 'chosen' instead of 'choosen'"):
        sides({"prompt": "q", "choosen": "a", "rejected": "b"})
    for row in (["q"], "q", None, 5):
        with pytest.raises(FormatError, match="The objective needs two answers to compare"):
            sides(row)


def test_empty_columns_of_a_joined_table_do_not_decide() -> None:
    scored = {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2]}
    assert len(sides({**scored, "chosen": None, "rejected": None})) == 2
    assert len(sides({"prompt": "q", "completion": "a", "label": 1, "chosen": "", "rejected": []}, "judged")) == 1
    assert len(sides({"prompt": "q", "chosen": "a", "rejected": "b", "responses": None, "scores": None})) == 2


@pytest.mark.parametrize("name", ["messages", "text", "pattern"])
def test_a_format_of_one_answer_is_refused_by_name(name: str) -> None:
    for reading in ("pairs", "judged"):
        with pytest.raises(RecipeError, match=f"data.format: {name} holds one answer a row"):
            read_row(TUNING["messages"], PLACE, format_name=name, options=ReadOptions(reading=reading))
    with pytest.raises(RecipeError, match=r"data.columns: maps columns to one conversation"):
        read_row({}, PLACE, format_name="auto", options=ReadOptions({"user": "{q}"}, reading="pairs"))


def test_a_named_format_reads_its_rows() -> None:
    options = ReadOptions(reading="pairs")
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert len(read_row(row, PLACE, format_name="preference", options=options)[1]) == 2
    with pytest.raises(FormatError, match="looks like preference"):
        read_row(row, PLACE, format_name="scored", options=options)
