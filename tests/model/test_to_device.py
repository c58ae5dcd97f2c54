"""What waits for a device: tests/stand_in."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from instil.model.to_device import send, to_device


class Told:
    """Stands for a tensor, and keeps how it was asked to move."""

    def to(self, device: Any, **settings: Any) -> dict[str, Any]:
        return settings


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("cuda:1", False), ("xpu", False), ("mps", True)])
def test_only_mps_waits_for_a_copy_because_it_reads_freed_memory_otherwise(device: str, waits: bool):
    for name in (device, torch.device(device)):
        assert to_device(cast(Any, Told()), name) == {"non_blocking": not waits}


def test_numbers_and_rows_of_numbers_arrive_with_their_type():
    assert send([[1, 2], [3, 4]], "cpu").tolist() == [[1, 2], [3, 4]]
    assert send([], "cpu").dtype == torch.long
    assert send([0.1], torch.device("cpu"), dtype=torch.float64).tolist() == [0.1]
    assert send([3], "meta").device.type == "meta"
