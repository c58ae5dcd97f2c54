"""Stores on the disk: what is found, what is chosen, and that nothing in use or needed is removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.preparation.small_store import write
from tests.test_file_use import HOLD

from instil.preparation.store import ExampleStore
from instil.reporting.stores import Choice, chosen, needed_by, remove, store_folders, stored_in

KEYS = [f"{number:032x}" for number in range(10)]
WRITE = """
import sys
from tests.preparation.small_store import EXAMPLES
from instil.preparation.store import pack
from instil.preparation.store_writer import StoreWriter
with StoreWriter(sys.argv[1], fingerprint="f") as writer:
    writer.write(pack(EXAMPLES))
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script on a folder until the context ends; it is killed then."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert started.stdout is not None
    assert started.stdin is not None
    try:
        assert started.stdout.readline() == "open\n"
        yield started
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
        started.stdout.close()
        started.stdin.close()


def states(folder: Path, **needed: str) -> dict[str, str]:
    return {stored.folder.name: stored.state for stored in stored_in([folder], needed=needed)}


def run_that_needs(folder: Path, key: str, *, finished: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"data: {{store: {folder.parent / 'own'}}}\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"fingerprints": {"data": key}}), encoding="utf-8")
    if finished:
        (folder / "results.json").write_text('{"steps": 1}', encoding="utf-8")
    return folder


def test_a_store_that_another_process_has_open_is_not_removed(tmp_path: Path):
    folder = write(tmp_path / KEYS[0])
    before = stored_in([tmp_path], needed={})
    with process(HOLD, folder):
        assert states(tmp_path) == {KEYS[0]: "in use"}
        assert chosen(stored_in([tmp_path], needed={}), Choice()) == []
        gone, kept = remove(before)  # it was opened after it was listed
        assert (gone, [reason for _, reason in kept]) == ([], ["in use since a moment ago"])
        assert len(ExampleStore.open(folder)) == 3
    gone, kept = remove(before)
    assert ([stored.key for stored in gone], kept) == ([KEYS[0]], [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_store_that_is_being_written_is_in_use_and_left_over_once_its_process_is_dead(tmp_path: Path):
    with process(WRITE, tmp_path / KEYS[0]) as writer:
        aside = f".tmp-{KEYS[0]}-{writer.pid}"
        assert states(tmp_path) == {aside: "in use"}
        assert remove(stored_in([tmp_path], needed={}))[0] == []
    assert states(tmp_path) == {aside: "left over"}
    found = stored_in([tmp_path], needed={})
    assert found[0].size > 100
    assert remove(chosen(found, Choice(unusable=True)))[0] == found
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_an_unfinished_run_needs_is_kept_unless_requested(tmp_path: Path):
    for key in KEYS[:3]:
        write(tmp_path / "own" / key)
    runs = [run_that_needs(tmp_path / "a", KEYS[0]), run_that_needs(tmp_path / "b", KEYS[1], finished=True)]
    assert needed_by(runs) == {KEYS[0]: str(tmp_path / "a")}
    folders = [folder for folder in store_folders([], runs) if folder.is_relative_to(tmp_path)]
    assert folders == [tmp_path / "own"]
    found = stored_in(folders, needed=needed_by(runs))
    assert [stored.key for stored in chosen(found, Choice())] == KEYS[1:3]
    assert [stored.key for stored in chosen(found, Choice(needed=True))] == KEYS[:3]
    (tmp_path / "a" / "recipe.yaml").write_text("{oh: [", encoding="utf-8")
    assert needed_by(runs) == {KEYS[0]: str(tmp_path / "a")}  # a damaged recipe does not free its store
    assert store_folders([tmp_path / "own"], runs)[-1] == tmp_path / "own"


def test_age_size_and_what_is_kept_choose(tmp_path: Path):
    now = time.time()
    for number, key in enumerate(KEYS[:4]):
        folder = write(tmp_path / key)
        (folder / "heldout.jsonl").write_bytes(b"x" * 100_000 * number)
        for path in (folder, *folder.iterdir()):
            os.utime(path, (now - 86_400 * (4 - number), now - 86_400 * (4 - number)))
    found = stored_in([tmp_path], needed={})
    assert [stored.key for stored in found] == KEYS[:4]  # the longest unused first

    def keys(choice: Choice) -> list[str]:
        return [stored.key for stored in chosen(found, choice)]

    assert keys(Choice(older=2.5 * 86_400)) == KEYS[:2]
    assert keys(Choice(larger=150_000)) == KEYS[2:4]
    assert keys(Choice(older=1.5 * 86_400, larger=150_000)) == KEYS[2:3]
    assert keys(Choice(keep=sum(stored.size for stored in found[2:]))) == KEYS[:2]
    assert keys(Choice(keep=0)) == KEYS[:4]
    ExampleStore.open(tmp_path / KEYS[0])  # opening is using
    assert [stored.key for stored in stored_in([tmp_path], needed={})][-1] == KEYS[0]


def test_only_folders_of_stores_are_touched(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    other = tmp_path / KEYS[1]  # the name of a store, and something else in it
    other.mkdir()
    (other / "thesis.tex").write_text("x", encoding="utf-8")
    (tmp_path / KEYS[2]).symlink_to(tmp_path / "thesis")
    (tmp_path / ".tmp-thesis-1").mkdir()
    (tmp_path / "file-hashes.json").write_text("{}", encoding="utf-8")
    assert states(tmp_path) == {}
    (write(tmp_path / KEYS[3]) / "store.json").unlink()
    header = write(tmp_path / KEYS[4]) / "store.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 1}), encoding="utf-8")
    assert states(tmp_path) == {KEYS[3]: "damaged", KEYS[4]: "old version"}
    assert len(remove(chosen(stored_in([tmp_path], needed={}), Choice(unusable=True)))[0]) == 2
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
def test_a_store_that_may_not_be_removed_is_named(tmp_path: Path):
    write(tmp_path / KEYS[0])
    tmp_path.chmod(0o555)
    try:
        gone, kept = remove(stored_in([tmp_path], needed={}))
    finally:
        tmp_path.chmod(0o755)
    assert gone == []
    assert "cannot be removed" in kept[0][1]
