"""Fixtures shared by the tests of training and of faults: a tiny base model and rows, computed on one thread.

Each folder's conftest.py imports them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.training.command_line import make_base, make_rows, train, write_recipe

from instil.training.records.run_folder import Run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Compute on one thread in tests and in session fixtures: another number of threads rounds differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random base model without a chat template."""
    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of conversations."""
    return make_rows(tmp_path_factory.mktemp("data") / "rows.jsonl")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Run:
    """The run of the plain recipe, uninterrupted."""
    return train(write_recipe(tmp_path_factory.mktemp("reference"), base=base, rows=rows))
