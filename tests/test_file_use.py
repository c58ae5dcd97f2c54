"""The lock of a store: shared by readers, alone for a writer and a removal, gone with its process."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.preparation.small_store import write

from instil.errors import DataError
from instil.file_use import FileUse, unused
from instil.preparation.store import EXAMPLES, ExampleStore

HOLD = """
import sys
from instil.errors import DataError
from instil.preparation.store import ExampleStore
store = ExampleStore.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def is_unused(folder: Path) -> bool:
    with unused(folder / EXAMPLES) as nobody:
        return nobody


def test_a_store_that_is_open_is_in_use_until_it_is_closed(tmp_path: Path):
    folder = write(tmp_path / "store")
    assert is_unused(folder)
    first, second = ExampleStore.open(folder), ExampleStore.open(folder, split="heldout")
    part = first[:1]
    del first, second
    assert not is_unused(folder)  # a part of the store is enough
    copy = pickle.loads(pickle.dumps(FileUse(folder / EXAMPLES)))
    del part
    assert is_unused(folder)
    del copy


def test_a_store_is_in_use_while_another_process_has_it_open(tmp_path: Path):
    folder = write(tmp_path / "store")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "open\n"
    assert not is_unused(folder)
    assert len(ExampleStore.open(folder)) == 3  # readers share it
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    assert is_unused(folder)


def test_while_a_store_is_being_removed_it_cannot_be_opened(tmp_path: Path):
    folder = write(tmp_path / "store")
    with unused(folder / EXAMPLES) as nobody:
        assert nobody
        with pytest.raises(DataError, match="no complete store"):
            ExampleStore.open(folder)
    assert is_unused(tmp_path / "none")
