from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from instil.model import device_memory


def test_files_that_the_system_keeps_count_as_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 150\ninactive_file 350\nactive_file 400\n")
    monkeypatch.setattr(device_memory, "_GROUP", tmp_path)
    assert device_memory.free_bytes(torch.device("cpu")) == 850
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory.free_bytes(torch.device("cpu")) > 1000


@pytest.mark.slow
def test_the_limit_of_a_process_counts():
    program = (
        "import resource, torch; from instil.model.device_memory import free_bytes; import psutil\n"
        "used = psutil.Process().memory_info().vms\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, -1))\n"
        "assert 100_000_000 < free_bytes(torch.device('cpu')) <= 300_000_000"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_cpus_refusal_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert device_memory.is_out_of_memory(caught.value)
    assert not device_memory.is_out_of_memory(RuntimeError("shapes do not fit"))
