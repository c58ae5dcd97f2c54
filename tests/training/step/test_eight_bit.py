"""8-bit AdamW over shards: the numbers of one process, and checkpoints for any number of processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from tests.training import eight_bits
from tests.training.command_line import call_on_processes
from tests.training.eight_bits import HALF, SHAPES, go_on, make, move, save

from instil.training.checkpoints.checkpoint import open_checkpoint, step_folder
from instil.training.processes.ranks import Ranks

pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: the tests of 8-bit AdamW are left out")
pytestmark = pytest.mark.slow
ONE = Ranks(0, 1, torch.device("cpu"))
ROUNDED = 2e-3
"""What a weight may differ by after four steps of 1e-2, whose moments were rounded in other blocks."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of one process, of two, and of each continued on the other number."""
    folder = tmp_path_factory.mktemp("eight-bits")
    learner = make(ONE)
    move(learner, start=0, stop=HALF)
    save(learner, folder / "one", HALF)
    move(learner, start=HALF, stop=2 * HALF)
    save(learner, folder / "one", 2 * HALF)
    call_on_processes(2, partial(eight_bits.main, str(folder)))
    learner, again = go_on(folder / "two", ONE)
    assert again
    move(learner, start=HALF, stop=2 * HALF)
    save(learner, folder / "one-from-two", 2 * HALF)
    return folder


def weights(folder: Path, step: int = 2 * HALF) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(step_folder(folder, step))
    return {name: checkpoint.read("weights", name) for name in SHAPES}


@pytest.mark.parametrize("name", ["two", "two-from-one", "one-from-two"])
def test_rows_that_are_cut_between_blocks_have_the_bits_of_one_process(runs: Path, name: str):
    found, expected = weights(runs / name), weights(runs / "one")
    for weight in ("even", "small", "one row"):
        assert torch.equal(found[weight], expected[weight]), weight


@pytest.mark.parametrize("name", ["two", "two-from-one", "one-from-two"])
def test_rows_that_are_cut_within_a_block_differ_by_rounding_alone(runs: Path, name: str):
    found, expected = weights(runs / name)["uneven"], weights(runs / "one")["uneven"]
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < ROUNDED
    moved = (expected - weights(runs / "one", HALF)["uneven"]).abs().max()
    assert moved > 5 * ROUNDED


def test_two_processes_go_on_to_the_same_bits(runs: Path):
    found, expected = weights(runs / "two-from-two"), weights(runs / "two")
    assert all(torch.equal(found[name], expected[name]) for name in SHAPES)


def test_each_process_writes_the_moments_of_its_own_rows(runs: Path):
    checkpoint = open_checkpoint(step_folder(runs / "two", HALF))
    moments = checkpoint.pieces_of("optimizer", "uneven::state1")
    assert [(first, tuple(codes.shape), codes.dtype) for first, codes in moments] == [
        (0, (33, 70), torch.uint8),
        (33, (32, 70), torch.uint8),
    ]
    scales = checkpoint.pieces_of("optimizer", "uneven::absmax1")
    assert [(first, len(some)) for first, some in scales] == [(0, 10), (10, 9)]
    assert checkpoint.read("optimizer", "small::state1").dtype == torch.float32
    assert [first for first, _ in checkpoint.pieces_of("optimizer", "one row::state1")] == [0]
