from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from tests.forks import start_fork

from instil.errors import RecipeError
from instil.recipe.machine import ParallelSettings
from instil.training.processes.join import check_sequence, is_launched, is_left_alone, join_ranks, last_line


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


def test_processes_that_groups_do_not_fill_are_refused_with_both_numbers():
    for size in (2, 4):
        check_sequence(ParallelSettings(sequence=2), size)
    with pytest.raises(RecipeError, match=r"^parallel\.sequence: 2, but the run has 3 processes\. Expected a multiple"):
        check_sequence(ParallelSettings(sequence=2), 3)
    with (
        pytest.raises(RecipeError, match=r"but the run has 1 process\."),
        join_ranks(ParallelSettings(sequence=2), device_name="cpu"),
    ):
        pass
    with pytest.raises(ValidationError, match=r"sequence is 4, which does not divide processes \(6\)"):
        ParallelSettings(processes=6, sequence=4)
    with pytest.raises(ValidationError, match="Leave fewest_processes out, or set sequence to 1"):
        ParallelSettings(processes=4, sequence=2, launcher="ray", fewest_processes=2)


def join_four_in_pairs(rank: int, store: Path) -> None:
    """Join four processes of which two share tokens, twice, in a group of somebody else."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="4", LOCAL_RANK=str(rank))
    dist.init_process_group("gloo", store=dist.FileStore(str(store), 4), rank=rank, world_size=4)
    for _ in range(2):
        with join_ranks(ParallelSettings(sequence=2), device_name="cpu") as ranks:
            assert ranks.sequence is not None
            found = (ranks.sequence.rank, ranks.sequence.size, ranks.share, ranks.num_shares, ranks.counts)
            assert found == (rank % 2, 2, rank // 2, 2, rank % 2 == 0)
            assert ranks.sequence.sum(torch.tensor([1 << rank])).item() == (3 if rank < 2 else 12)
    dist.barrier()
    dist.destroy_process_group()
    print("joined")


@pytest.mark.slow
def test_neighbours_share_tokens(tmp_path: Path):
    running = [start_fork(partial(join_four_in_pairs, rank, tmp_path / "store")) for rank in range(4)]
    outputs = [one.communicate(timeout=300)[0] for one in running]
    assert all("joined" in output for output in outputs), outputs
