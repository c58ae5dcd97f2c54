from __future__ import annotations

import numpy as np
import pytest

from instil.conversation.field_checks import check_keys, check_number, check_text, check_weight, shown
from instil.errors import DataError


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [0, 1, True, False, 0.5, np.float32(0.25), 1e300])
def test_numbers_from_0_are_weights(value: object) -> None:
    check_weight("weight", value)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, 1j, 10**400])
def test_anything_else_is_no_weight(value: object) -> None:
    with pytest.raises(DataError, match=r"^weight: found .*Expected a number of at least 0"):
        check_weight("weight", value)


def test_each_check_names_the_field_and_what_it_found() -> None:
    for check, bad in (
        (check_text, 5),
        (check_keys, 5),
        (check_keys, {5: 6}),
        (check_number, 2.5),
        (check_number, True),
    ):
        with pytest.raises(DataError, match=r"^Message\.name: found (5|2\.5|True), which is of type"):
            check("Message.name", bad)


def test_none_is_allowed_only_where_it_is_optional() -> None:
    check_text("name", None)
    check_number("part", None, optional=True)
    with pytest.raises(DataError, match=r"found None\. Expected text\."):
        check_text("name", None, optional=False)
    with pytest.raises(DataError, match=r"found None\. Expected a whole number\."):
        check_number("row", None)


def test_any_object_can_be_shown() -> None:
    assert "Mute" in shown(Mute())
    assert len(shown("x" * 10_000)) < 80
