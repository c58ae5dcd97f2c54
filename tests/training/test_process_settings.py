from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

from instil.training.process_settings import torch_settings

PROGRAM = """
import json, os, sys
import torch
from instil.training.process_settings import freed_memory_kept, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

with freed_memory_kept():
    if "shards" in sys.argv:
        return_freed_memory()
    at_first = resident()
    blocks = [torch.ones(2 * 2**20) for _ in range(20)]
    taken = resident()
    del blocks
    freed = resident()
print(json.dumps([taken - at_first, freed - at_first, resident() - at_first]))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc: 1 case left out")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    taken, freed, afterwards = json.loads(said)  # MiB, of 160
    assert taken >= 150
    assert freed >= 150
    assert afterwards <= 20


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc: 1 case left out")
def test_what_shards_gather_goes_back_at_once():
    words = [sys.executable, "-c", PROGRAM, "shards"]
    taken, freed, _ = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert taken >= 150
    assert freed <= 20


@pytest.mark.parametrize("deterministic", [False, True])
def test_threads_and_determinism_are_reset_after_an_error_too(deterministic: bool):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    threads = []

    def fails() -> None:
        with torch_settings(threads=before[0] + 1, deterministic=deterministic):
            threads.append(torch.get_num_threads())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fails()
    assert threads == [before[0] + 1]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    with torch_settings(threads=None, deterministic=deterministic):
        assert torch.get_num_threads() == before[0]


@pytest.mark.parametrize("own", [None, ":16:8"])
def test_products_on_cuda_are_deterministic_too(own: str | None, monkeypatch: pytest.MonkeyPatch):
    """torch warned in every run that they may not be."""
    name = "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.delenv(name, raising=False)
    if own is not None:
        monkeypatch.setenv(name, own)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with torch_settings(threads=None, deterministic=True):
        assert os.environ[name] == (own or ":4096:8")
    assert os.environ.get(name) == own
