"""Fixtures of the tests of sweeps: those of training, and one sweep of which a run diverges."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.training.base_and_rows import _one_thread, base, reference, rows
from tests.training.command_line import exit_code, write_recipe

from instil.sweeps.record import Sweep

__all__ = ["_one_thread", "base", "reference", "rows"]
RATES = "1e30,5e-3,1e-4"
"""The first one diverges, the second one is that of the plain recipe."""


@dataclass(frozen=True)
class Swept:
    """A sweep by the command line: its exit status, what it printed, and what it left."""

    status: int
    out: str
    err: str
    recipe: Path
    sweep: Sweep


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Swept:
    """Return a sweep over three learning rates."""
    recipe = write_recipe(tmp_path_factory.mktemp("swept"), base=base, rows=rows)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = exit_code("train", str(recipe), "--optimizer.lr", RATES)
    return Swept(status, out.getvalue(), err.getvalue(), recipe, Sweep.open(recipe.parent / "run"))
