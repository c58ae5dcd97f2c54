from __future__ import annotations

import pytest
from tests.evaluation.cases import case

from instil.evaluation.behaviour import judge_behaviour


def test_behaviour_counts_stop_tokens_and_repeats():
    assert judge_behaviour(case("fine")) == {"stops": 1.0, "not_empty": 1.0, "no_repeats": 1.0}
    assert judge_behaviour(case("on and on and " * 20, stop_id=None)) == {
        "stops": 0.0,
        "not_empty": 1.0,
        "no_repeats": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("So 15" + "0" * 60, 0.0),
        ("答案是" + "一样的" * 20, 0.0),
        ("- one\n" * 8, 0.0),
        ("She pays $1,000,000 in total. " + "-" * 20, 1.0),
        ("", 1.0),
    ],
)
def test_loops_without_spaces_count_as_repeats(text: str, fine: float):
    assert judge_behaviour(case(text))["no_repeats"] == fine
