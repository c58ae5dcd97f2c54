from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from instil.conversation import Example
from instil.errors import DataError


@pytest.mark.parametrize(
    ("ids", "weights"),
    [
        ([5, 6, 7], [0.0, 1.0, 0.5]),
        ((5, 6, 7), (0, True, 0.5)),
        (np.array([5, 6, 7], dtype=np.int32), np.array([0, 1, 0.5], dtype=np.float32)),
        (torch.tensor([5, 6, 7]), torch.tensor([0, 1, 0.5])),
    ],
)
def test_any_list_of_numbers_has_labels_and_tensors(ids: Any, weights: Any) -> None:
    example = Example(ids, weights)
    assert example.labels() == [-100, 6, 7]
    assert example.labels(ignored=-1) == [-1, 6, 7]
    tensors = example.to_tensors()
    assert tensors["input_ids"].tolist() == [5, 6, 7]
    assert tensors["labels"].tolist() == [-100, 6, 7]
    assert tensors["weights"].tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    "wrong", [None, 5, 2.5, "ab", b"ab", {0: 1}, {1, 2}, object(), iter([1]), torch.tensor(5), [5] * 3]
)
def test_ids_and_weights_are_two_lists_of_one_length(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"^Example"):
        Example(wrong, [0.0, 1.0])
    with pytest.raises(DataError, match=r"^Example"):
        Example([5, 6], wrong)


@pytest.mark.parametrize("wrong", [None, "6", 6.5, [6], -1, 2**31, 10**30, b"x"])
def test_ids_that_are_none_are_refused_where_they_are_used(wrong: Any) -> None:
    example = Example([5, wrong], [0.0, 1.0])
    for use in (example.labels, example.to_tensors):
        with pytest.raises(DataError, match="Expected whole numbers from 0 as ids"):
            use()


@pytest.mark.parametrize("wrong", [None, "x", -1, float("nan"), float("inf"), 10**400])
def test_weights_that_are_none_are_refused_where_they_are_used(wrong: Any) -> None:
    with pytest.raises(DataError, match="finite numbers from 0 as weights"):
        Example([5, 6], [0.0, wrong]).labels()


def test_the_label_of_context_is_a_number() -> None:
    with pytest.raises(DataError, match=r"^labels\.ignored: found None"):
        Example([5], [0.0]).labels(ignored=None)  # type: ignore[arg-type]
