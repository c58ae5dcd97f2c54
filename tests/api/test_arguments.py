from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instil.api.arguments import check_choice, check_type, path_of
from instil.errors import EvaluationError, ExportError, RecipeError


@pytest.mark.parametrize("value", ["fp8", "", None, 5, ["fp32"], b"fp32"])
def test_a_value_that_is_no_choice_is_refused_with_the_choices(value: Any) -> None:
    check_choice("dtype", "fp32", ["fp32", "bf16"], ExportError)
    with pytest.raises(ExportError, match=r"^dtype: found .*Expected fp32 or bf16\. Correct the argument\.$"):
        check_choice("dtype", value, ["fp32", "bf16"], ExportError)


def test_true_is_no_number_and_none_is_absence() -> None:
    check_type("limit", None, int, EvaluationError, expected="a number")
    check_type("limit", 3, int, EvaluationError, expected="a number")
    check_type("resume", True, bool, RecipeError, expected="True or False")
    with pytest.raises(EvaluationError, match=r"^limit: found True\. Expected a number\."):
        check_type("limit", True, int, EvaluationError, expected="a number")
    with pytest.raises(RecipeError, match=r"^resume: found 'yes'\. Expected True or False\."):
        check_type("resume", "yes", bool, RecipeError, expected="True or False")


def test_a_long_value_is_cut() -> None:
    with pytest.raises(RecipeError) as caught:
        check_type("resume", "x" * 10_000, bool, RecipeError, expected="True or False")
    assert len(str(caught.value)) < 200


def test_a_path_may_be_text_or_anything_with_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_of("out", "a/b", ExportError) == Path("a/b") == path_of("out", Path("a/b"), ExportError)
    assert path_of("out", "~/b", ExportError) == tmp_path / "b"


@pytest.mark.parametrize("value", [None, 5, b"a", "", "a\0b", "a\ud800", ["a"], object()])
def test_what_is_no_path_is_refused_in_the_class_of_the_call(value: Any) -> None:
    with pytest.raises(ExportError, match=r"^out: found .*Expected a path as text or a Path"):
        path_of("out", value, ExportError)
