from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.forks import in_fork

from instil.model import device_memory


def test_files_that_the_system_keeps_count_as_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 150\ninactive_file 350\nactive_file 400\n")
    monkeypatch.setattr(device_memory, "_GROUP", tmp_path)
    assert device_memory.free_bytes(torch.device("cpu")) == 850
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.free_bytes(torch.device("cpu")) > 1000


def test_the_limit_of_a_process_counts():
    ended = in_fork(lambda: print(device_memory.free_bytes(torch.device("cpu"))), address_space=300_000_000)
    assert ended.code == 0, ended.output
    assert 100_000_000 < int(ended.output) <= 300_000_000


def test_the_cpus_refusal_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert device_memory.is_out_of_memory(caught.value)
    assert not device_memory.is_out_of_memory(RuntimeError("shapes do not fit"))
