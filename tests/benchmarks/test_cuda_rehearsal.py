"""The replay of torch's caching allocator, and the estimate of `instil plan` beside it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from tests.benchmarks.programs import program

allocator = program("allocator")
memory = program("cuda_memory")
Event, MB = allocator.Event, allocator.MB

ALLOCATIONS = [
    # sizes in bytes, what is in use, what is held
    ([1], 512, 2 * MB),
    ([513, 512], 1536, 2 * MB),
    ([MB, MB], 2 * MB, 2 * MB),
    ([MB + 1], MB + 512, 20 * MB),
    ([3 * MB, 5 * MB, 11 * MB], 20 * MB, 20 * MB),  # a rest of 1 MB is not split off
    ([19 * MB, MB], 21 * MB, 22 * MB),  # and a small block does not come from it
    ([12 * MB], 12 * MB, 12 * MB),
]


@pytest.mark.parametrize(("sizes", "in_use", "held"), ALLOCATIONS)
def test_blocks_are_rounded_and_come_from_torchs_segments(sizes, in_use, held):
    found = allocator.replay([Event(number, size) for number, size in enumerate(sizes)])
    assert (found.peak_allocated, found.peak_reserved) == (in_use, held)


def test_freed_neighbours_are_one_block_again():
    events = [Event(number, 5 * MB) for number in range(4)]
    events += [Event(number, 0) for number in (1, 2)] + [Event(9, 10 * MB)]
    found = allocator.replay(events)
    assert found.reserved == 20 * MB
    assert found.allocated == 20 * MB


def test_a_full_device_frees_its_cache_before_it_fails():
    events = [Event(0, 30 * MB), Event(0, 0), Event(1, 40 * MB)]
    assert allocator.replay(events).peak_reserved == 70 * MB
    assert allocator.replay(events, capacity=40 * MB).reserved == 40 * MB
    with pytest.raises(allocator.OutOfMemory):
        allocator.replay(events, capacity=39 * MB)
    assert 40 * MB <= allocator.smallest(events) <= 41 * MB


def test_a_storage_is_noted_once_and_until_it_is_gone():
    with allocator.Recorder("meta") as recorder:
        first = torch.zeros(1024, device="meta")
        view = first[10:]
        second = first + 1
        del first
        del view
        del second
    assert [event.size for event in recorder.events] == [4096, 4096, 0, 0]
    assert [event.number for event in recorder.events][:3] == [1, 2, 1]


SLOW_CASES = [
    pytest.param(memory.Case("smollm2-135m", tokens=1024), marks=pytest.mark.long),
    memory.Case("smollm2-135m", tokens=1024, micro_batches=1),
    pytest.param(
        memory.Case("smollm2-135m", tokens=4096, adapter="lora", recompute=True, micro_batches=1),
        marks=pytest.mark.long,
    ),
    pytest.param(
        memory.Case("smollm2-135m", tokens=1024, adapter="lora", quantize="4bit"),
        marks=[pytest.mark.long, pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW_CASES, ids=str)
def test_the_estimate_for_a_gpu_covers_a_replayed_step(case):
    """An estimate that is too low ends a run in an out-of-memory error; `Fit` leaves a tenth of the memory free."""
    recorder, estimate = memory.record_step(case, device=torch.device("meta"))
    found = allocator.replay(recorder.events)
    assert len(recorder.events) > 1000
    assert found.allocated < 0.75 * found.peak_allocated  # a step frees what it took
    # The estimate counts every token as trained; of these rows 40% are.
    assert 0.97 < estimate.peak / found.peak_allocated < 1.3
    assert estimate.peak > 0.9 * allocator.smallest(recorder.events)
