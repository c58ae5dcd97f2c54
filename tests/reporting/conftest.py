"""Fixtures shared by the tests of reporting."""

from __future__ import annotations

from tests.training.base_and_rows import _one_thread, base, reference, rows  # noqa: F401 - fixtures
