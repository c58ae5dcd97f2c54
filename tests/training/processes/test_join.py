from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.forks import start_fork

from instil.recipe.machine import ParallelSettings
from instil.training.processes.join import is_launched, is_left_alone, join_ranks, last_line


def use_a_group_that_is_there(rank: int, store: Path) -> None:
    """Join twice in a group of somebody else, and use that group afterwards."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    dist.init_process_group("gloo", store=dist.FileStore(str(store), 2), rank=rank, world_size=2)
    for _ in range(2):
        with join_ranks(ParallelSettings(), device_name="cpu") as ranks:
            assert (ranks.rank, ranks.size) == (rank, 2)
            assert ranks.collect(rank) == ([0, 1] if rank == 0 else [])
    values = [None, None]
    dist.all_gather_object(values, rank)
    assert values == [0, 1]
    dist.destroy_process_group()
    print("used")


def test_a_process_group_that_is_there_is_used_and_kept(tmp_path: Path):
    running = [start_fork(partial(use_a_group_that_is_there, rank, tmp_path / "store")) for rank in (0, 1)]
    outputs = [one.communicate(timeout=120)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0], outputs
    assert all("used" in output for output in outputs)


def test_the_only_process_of_a_launcher_launches_no_other(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE", "INSTIL_LAUNCHER"):
        monkeypatch.delenv(name, raising=False)
    assert not is_launched()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")  # as elastic training on one node leaves it
    assert not is_launched()
    monkeypatch.setenv("INSTIL_LAUNCHER", "7")
    assert is_launched()


@pytest.mark.parametrize(
    ("error", "alone"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:5"), True),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
    ],
)  # fmt: skip
def test_a_broken_sum_is_told_from_a_mistake(error: RuntimeError, alone: bool):
    assert is_left_alone(error) == alone
    assert "pair.cc" not in last_line(error)


def test_the_advice_in_a_broken_sum_is_left_out():
    said = (
        "[/third_party/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:5. This is typically caused by a crash."
    )
    assert last_line(RuntimeError(said)) == "Connection closed by peer [127.0.0.1]:5"
