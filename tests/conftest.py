"""What the tests expect of the shell that starts them, set before torch is imported."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import instil  # noqa: F401 - before torch is imported

# Importing instil has threads that wait leave their core to the other workers and to what a test starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a busy machine, drawing an example or running it may take any time. A timing never decides a test.
settings.register_profile("instil", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("instil")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts in the background ignore Ctrl-C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Modules and collected tests stay to the end. Looking for garbage among them took a seventh of the time to collect.
gc.disable()


ON_REQUEST = ("long", "compiled", "benchmark", "exhaustive")
"""Marks of tests that take longer than all others together: they run only where -m names their mark."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that run on request, unless their mark is requested."""
    marks = [mark for mark in ON_REQUEST if mark not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Look for garbage from here on, among what the tests themselves make."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, here and in the forks of a test: a fork has none of the other threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
