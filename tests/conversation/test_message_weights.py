"""Claims about the weights of messages and of parts; the keys of other tools are in tests/faults/test_05_train_false.py."""

from __future__ import annotations

import pytest

from instil.conversation import PartWeight
from instil.conversation.message_weights import read_detail, read_weight, weighted_pieces, write_detail
from instil.errors import DataError


@pytest.mark.parametrize("weight", [-1, "1", float("inf"), float("nan"), []], ids=str)
def test_a_weight_is_a_number_of_at_least_0(weight):
    with pytest.raises(DataError, match="row 1 has weight"):
        read_weight({"weight": weight}, where="row 1")


def test_pieces_are_the_complete_text_and_are_written_as_they_are_read():
    parts = (PartWeight("content", 2, 4, 0.0), PartWeight("content", 4, 5, 0.5))
    assert weighted_pieces("abcdefg", parts) == [(0, 2, 1.0), (2, 4, 0.0), (4, 5, 0.5), (5, 7, 1.0)]
    detail = write_detail("abcdefg", parts)
    assert read_detail({"train_detail": detail}, "abcdefg", where="row 1") == parts
