"""Fixtures of the tests on the stand-in: a tiny base model and rows, computed on one thread."""

from __future__ import annotations

from tests.training.base_and_rows import _one_thread, base, rows  # noqa: F401 - fixtures
