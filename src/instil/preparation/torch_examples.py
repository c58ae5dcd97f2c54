"""Prepared examples as a dataset of torch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from instil.conversation import Example
from instil.errors import DataError


class TorchExamples(Dataset[dict[str, Tensor]]):
    """A `torch.utils.data.Dataset` view of examples: item *n* is the result of `Example.to_tensors` on example *n*.

    Example:
        >>> TorchExamples([Example([5, 6], [0, 1])])[0]["labels"].tolist()
        [-100, 6]
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        """Make a view; the examples are not copied."""
        self._examples = examples

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._examples)

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        """Return the tensors of one example.

        Raises:
            DataError: If the index is no whole number.
        """
        try:
            position = operator.index(index)
        except TypeError:
            raise DataError(f"index: found {index!r:.60}. Expected a whole number. Correct it.") from None
        return self._examples[position].to_tensors()
