from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from tests.training.tiny import CPU

from instil.training.processes.ranks import Ranks


def test_one_process_answers_for_itself():
    ranks = Ranks(0, 1, CPU)
    gradient = torch.ones(3)
    ranks.sum_gradients([gradient])
    ranks.wait()
    assert ranks.is_first
    assert ranks.sum_numbers(1.5, 2) == [1.5, 2]
    assert (ranks.any(True), ranks.any(False)) == (True, False)
    assert (ranks.tell("a"), ranks.collect("a")) == ("a", ["a"])
    assert gradient.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("bucket", [1, 5, 100])
def test_gradients_of_any_bucket_are_summed_where_they_are(monkeypatch: pytest.MonkeyPatch, bucket: int):
    sent: list[int] = []

    def doubled(tensor: torch.Tensor) -> None:
        sent.append(tensor.numel())
        tensor.mul_(2)

    monkeypatch.setattr(dist, "all_reduce", doubled)
    gradients = [torch.full((2, 2), 1.0), torch.full((3,), 2.0), torch.full((1,), 3.0)]
    Ranks(0, 2, CPU).sum_gradients(gradients, bucket=bucket)
    assert sum(sent) == 8
    assert [gradient.unique().tolist() for gradient in gradients] == [[2.0], [4.0], [6.0]]


@pytest.mark.parametrize("local_rank", [0, 1, 2])
def test_processes_that_take_turns_pass_the_same_number_of_barriers(monkeypatch: pytest.MonkeyPatch, local_rank: int):
    barriers: list[object] = []
    monkeypatch.setattr(dist, "barrier", lambda group=None: barriers.append(group))
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    ranks = Ranks(local_rank, 3, CPU, patient=cast(Any, "patient"))
    with ranks.in_turn():
        assert len(barriers) == local_rank
    assert len(barriers) == 3
    with ranks.in_turn(False):
        pass
    assert len(barriers) == 3
