"""Fixtures of the tests of faults: those of training."""

from tests.training.base_and_rows import _one_thread, base, rows

__all__ = ["_one_thread", "base", "rows"]
