"""Claims about writing a store: it is complete, or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.preparation.small_store import EXAMPLES, write

from instil.errors import DataError
from instil.preparation.store import ExampleStore, pack
from instil.preparation.store_writer import StoreWriter


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with StoreWriter(tmp_path / "store", fingerprint="f") as writer:
            writer.write(pack(EXAMPLES))
            raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError, match="plug"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_writer_is_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from instil.preparation.store import pack; from instil.preparation.store_writer import StoreWriter; from instil.conversation import Example\n"
        "writer = StoreWriter(sys.argv[1], fingerprint='f').__enter__(); writer.write(pack([Example([1, 2], [0, 1])]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=False)
    assert done.returncode == -9
    assert [path.name.startswith(".tmp-store-") for path in tmp_path.iterdir()] == [True]
    with pytest.raises(DataError, match="no complete store"):
        ExampleStore.open(tmp_path / "store")
    write(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_second_of_two_writers_keeps_the_first_store(tmp_path: Path) -> None:
    write(tmp_path / "store")
    before = os.stat(tmp_path / "store" / "examples.arrow").st_ino
    write(tmp_path / "store")
    assert os.stat(tmp_path / "store" / "examples.arrow").st_ino == before
