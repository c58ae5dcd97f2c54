from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from instil.conversation import Example
from instil.errors import DataError
from instil.preparation.torch_examples import TorchExamples

VIEW = TorchExamples([Example([5, 6], [0, 1]), Example([7, 8, 9], [0, 0, 1])])


@pytest.mark.parametrize("index", [1, -1, np.int64(1), torch.tensor(1)])
def test_an_index_may_be_any_whole_number(index: Any) -> None:
    assert VIEW[index]["labels"].tolist() == [-100, -100, 9]


@pytest.mark.parametrize("index", [None, "1", 1.0, [1], slice(0, 1)])
def test_anything_else_is_a_plain_error(index: Any) -> None:
    with pytest.raises(DataError, match=r"^index: found .*Expected a whole number"):
        VIEW[index]


def test_the_end_is_found_as_in_any_sequence() -> None:
    assert [len(item["labels"]) for item in VIEW] == [2, 3]  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        VIEW[2]
