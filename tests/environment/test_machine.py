"""Cores and memory limit of this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instil.environment.machine import memory_limit, usable_cores


def test_only_the_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(("text", "limit"), [("4096\n", 4096), ("max\n", None), (None, None)])
def test_a_container_has_a_limit_or_none(tmp_path: Path, text: str | None, limit: int | None):
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    assert memory_limit(tmp_path) == limit
