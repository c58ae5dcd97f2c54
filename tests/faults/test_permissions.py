"""Every file of a run and an export is readable as the umask says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.training.command_line import exit_code, train, write_recipe

FOLDERS = ("work", "store", "merged", "adapter", "gguf")


UMASK = 0o026
"""It gives 640: neither a temporary file's 600, nor 644 or 664, which a program may have written down."""


@pytest.mark.long
@pytest.mark.slow
def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path, base: Path, rows: Path) -> None:
    before = os.umask(UMASK)
    try:
        store = {"store": str(tmp_path / "store")}
        change = {"training": {"max_steps": 1}, "adapter": {"kind": "lora", "rank": 2}, "data": store}
        run = train(write_recipe(tmp_path / "work", change, base=base, rows=rows))
        for target in ("merged", "adapter", "gguf"):
            assert exit_code("export", str(run.folder), str(tmp_path / target), "--as", target) == 0
    finally:
        os.umask(before)
    files = [path for name in FOLDERS for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).parts[0] for path in files} == set(FOLDERS)
    assert sum(path.suffix == ".safetensors" for path in files) >= 5
    modes = {path.stat().st_mode & 0o777 for path in files if path.name != ".lock"}
    assert modes == {0o666 & ~UMASK}
