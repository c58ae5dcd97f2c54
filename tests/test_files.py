"""Claims about `files`: a file or folder is the old one or the new one, whatever happens to its writer."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from instil import files
from instil.errors import RunError
from instil.files import (
    aside_of,
    atomic_file,
    atomic_folder,
    disk_errors,
    locked,
    make_folder,
    nearest_beside,
    put_in_place,
    remove_empty,
    remove_folder,
    sweep_aside,
    sweep_dead,
    write_json_atomic,
    write_text_atomic,
)

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def content(folder: Path) -> dict[str, str]:
    """Read every file under a folder, by its name relative to it."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def killed(code: str, *arguments: object) -> None:
    """Run Python code that kills its own process with `die()`."""
    start = "import os, signal, sys\nfrom pathlib import Path\nfrom instil import files\n"
    die = "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    command = [sys.executable, "-c", start + die + code, *map(str, arguments)]
    assert subprocess.run(command, check=False).returncode == -9


def fails(*_: object) -> None:
    raise NO_SPACE


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "file": ("files.write_text_atomic(Path(sys.argv[1]) / 'a', 'new')", lambda at: write_text_atomic(at / "a", "old")),
    "folder": (
        "with files.atomic_folder(Path(sys.argv[1]) / 'a', replace=True) as new: (new / 'f').write_text('new')",
        lambda at: write_folder(at / "a", "old"),
    ),
}


def write_folder(folder: Path, text: str) -> None:
    with atomic_folder(folder, replace=True) as new:
        (new / "f").write_text(text)


# What a writer calls, in order; it is killed just before the call. A folder is renamed by `os.rename`.
MOMENTS = [
    *(("file", f"{module}.{name} = die", "old") for module, name in (("files.os", "fsync"), ("files.os", "replace"))),
    ("file", "files.sync_folder = die", "new"),
    ("folder", "files.sync_tree = die", "old"),
    ("folder", "files.shutil.rmtree = lambda path, **_: 'replaced' in path.name and die()", "new"),
]


@pytest.mark.parametrize(("kind", "moment", "left"), MOMENTS)
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, kind: str, moment: str, left: str):
    code, write_old = WRITERS[kind]
    write_old(tmp_path)
    killed(f"{moment}\n{code}", tmp_path)
    assert {name: text for name, text in content(tmp_path).items() if not name.startswith((".tmp-", ".replaced-"))} == {
        "a" if kind == "file" else "a/f": left
    }
    sweep_dead(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_killed_between_its_two_renames_is_put_back_by_the_next_sweep(tmp_path: Path):
    write_folder(tmp_path / "a", "old")
    killed(f"files.os.rename = die\n{WRITERS['folder'][0]}", tmp_path)
    assert sorted(content(tmp_path).values()) == ["new", "old"]
    assert all(name.startswith((".tmp-", ".replaced-")) for name in content(tmp_path))
    sweep_dead(tmp_path / "a")
    assert content(tmp_path) == {"a/f": "old"}


def test_what_a_killed_writer_left_is_swept(tmp_path: Path):
    killed("files.os.replace = die\nfiles.write_text_atomic(Path(sys.argv[1]) / 'a', 'new')", tmp_path)
    (tmp_path / "mine").write_text("kept")
    (left,) = [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp-a-")]
    assert sweep_aside(tmp_path) == [left]
    assert content(tmp_path) == {"mine": "kept"}


def test_only_the_dead_are_swept_beside_a_file(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive = int(done.stdout), os.getpid()
    kept = [f".tmp-a-{alive}", f".tmp-gone-a-{alive}", f".tmp-b-{dead}", f".tmp-a-b-{dead}", ".tmp-a", ".tmp-a-x", "a"]
    for name in [*kept, f".tmp-a-{dead}"]:
        (tmp_path / name).write_text("")
    (tmp_path / f".tmp-gone-a-{dead}").mkdir()
    sweep_dead(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    sweep_dead(tmp_path / "no such folder" / "a")


def test_two_writers_of_one_file_leave_the_content_of_one(tmp_path: Path):
    code = "for _ in range(200): files.write_text_atomic(Path(sys.argv[1]), sys.argv[2] * 5000)"
    start = "import sys\nfrom pathlib import Path\nfrom instil import files\nfiles.os.fsync = lambda _: None\n"
    writers = [
        subprocess.Popen([sys.executable, "-c", start + code, str(tmp_path / "a"), letter], stderr=subprocess.PIPE)
        for letter in "xy"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "a").exists():
            seen.add((tmp_path / "a").read_text())
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert seen
    assert seen <= {"x" * 5000, "y" * 5000}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_second_writer_of_a_folder_that_is_not_replaced_keeps_the_first(tmp_path: Path):
    write_folder(tmp_path / "a", "first")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "a") as new:
        (new / "f").write_text("second")
    assert content(tmp_path) == {"a/f": "first"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    write_text_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="No space"):
        write_json_atomic(tmp_path / "a", {"new": 1})
    assert content(tmp_path) == {"a": "old"}


def test_a_file_that_outgrows_its_disk_leaves_the_old_one(tmp_path: Path):
    write_text_atomic(tmp_path / "a", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(OSError, match="too large"), atomic_file(tmp_path / "a") as file:
            file.write(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert content(tmp_path) == {"a": "old"}


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "a", "old")
    for call in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            broken = fails if call == "fsync" else fails_once(os.rename)
            patch.setattr(os, call, broken)
            with pytest.raises(OSError, match="No space"):
                write_folder(tmp_path / "a", "new")
        assert content(tmp_path) == {"a/f": "old"}, call
        assert [path.name for path in tmp_path.iterdir()] == ["a"], call


def fails_once(call: Callable[..., None]) -> Callable[..., None]:
    """Make a call that fails the first time it is used."""
    failures = [NO_SPACE]

    def broken(*arguments: object) -> None:
        if failures:
            raise failures.pop()
        call(*arguments)

    return broken


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_of_the_writer_leaves_the_old_content(tmp_path: Path, error: BaseException):
    write_text_atomic(tmp_path / "a", "old")
    write_folder(tmp_path / "b", "old")
    with pytest.raises(type(error)), atomic_file(tmp_path / "a") as file:  # noqa: PT012
        file.write(b"new")
        raise error
    with pytest.raises(type(error)), atomic_folder(tmp_path / "b", replace=True) as new:  # noqa: PT012
        (new / "f").write_text("new")
        raise error
    assert content(tmp_path) == {"a": "old", "b/f": "old"}


def test_a_file_and_a_folder_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    for name in ("replace", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *paths, real=real: (calls.append("named"), real(*paths)))
    real_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("flushed"), real_fsync(number)))
    write_text_atomic(tmp_path / "a", "text")
    assert calls == ["flushed", "named", "flushed"]
    calls.clear()
    with atomic_folder(tmp_path / "b" / "c") as new:
        (new / "inner").mkdir()
        (new / "inner" / "f").write_text("text")
    assert calls == ["flushed", "flushed", "flushed", "named", "flushed"]  # file, inner, folder; then the folder above


def test_a_folder_that_several_processes_fill_has_one_name_for_all(tmp_path: Path):
    aside = aside_of(tmp_path / "step-1", shared=True)
    aside.mkdir()
    writers = [threading.Thread(target=(aside / str(rank)).write_text, args=("share",)) for rank in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    put_in_place(aside, tmp_path / "step-1")
    assert content(tmp_path) == {"step-1/0": "share", "step-1/1": "share"}


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "漢" * 85, "x" * 245, "x" * 238], ids=len)
def test_the_longest_names_that_a_disk_takes_are_written(name: str, tmp_path: Path):
    """The temporary name has a prefix and a process id more; two long names that begin alike have two of them."""
    write_text_atomic(tmp_path / name, "old")
    files.write_texts_atomic({tmp_path / name: "new", tmp_path / f"{name[:-1]}y": "other"})
    assert content(tmp_path) == {name: "new", f"{name[:-1]}y": "other"}
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "folders" / name, replace=True) as folder:
            (folder / "f").write_text(text)
    assert content(tmp_path / "folders") == {f"{name}/f": "new"}
    remove_folder(tmp_path / "folders" / name)
    assert list((tmp_path / "folders").iterdir()) == []
    assert len(os.fsencode(aside_of(tmp_path / name).name)) <= 255


def test_what_a_killed_writer_left_of_a_long_name_is_swept(tmp_path: Path):
    name = "x" * 255
    killed(
        "with files.atomic_file(Path(sys.argv[1])) as file: file.write(b'half'); file.flush(); die()", tmp_path / name
    )
    other = aside_of(tmp_path / ("x" * 254)).name.rpartition("-")[0] + "-1999999999"
    (tmp_path / other).touch()
    assert len(list(tmp_path.iterdir())) == 2
    sweep_dead(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [other], "what is left of another name stays"


def test_a_folder_is_gone_from_its_name_before_it_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "a", "old")
    monkeypatch.setattr(files.shutil, "rmtree", fails)
    with pytest.raises(OSError, match="No space"):
        remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    remove_folder(tmp_path / "a")


def test_folders_that_were_made_and_stayed_empty_are_removed(tmp_path: Path):
    made = make_folder(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a") == []
    remove_empty(made)
    assert list(tmp_path.iterdir()) == []
    made = make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "f").touch()
    remove_empty(made)
    assert (tmp_path / "a" / "b" / "f").exists()


def test_only_what_a_disk_refuses_is_reported_as_the_disk(tmp_path: Path):
    message = r"cannot be written to .*No space left.*fix the folder's permissions"
    with pytest.raises(RunError, match=message), disk_errors(tmp_path):
        fails()
    with pytest.raises(FileNotFoundError, match="missing"), disk_errors(tmp_path):
        (tmp_path / "missing").read_text()


def test_no_library_is_loaded():
    code = "import sys; import instil.files; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_is_locked_by_one_process_and_free_after_it(tmp_path: Path):
    with locked(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_text_atomic(tmp_path / "a.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(tmp_path / "a.json", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "old"}


def test_a_folder_that_cannot_be_locked_for_its_disk_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def read_only(path: Path, *given: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(RunError, match=f"{tmp_path}: cannot be written to .*Read-only file system"), locked(tmp_path):
        pass


def test_an_incomplete_folder_is_never_taken_for_one_that_was_replaced(tmp_path):
    process = 2**22 + 1  # no process of this machine has such a number
    for name in (f".tmp-old-model-{process}", f".tmp-replaced-model-{process}"):
        (tmp_path / name).mkdir()
    sweep_dead(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    sweep_aside(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [".", "/", ""])
def test_a_path_without_a_name_is_a_folder(path: str) -> None:
    with pytest.raises(IsADirectoryError):
        write_text_atomic(Path(path), "text")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("MISSING.jsonl", ""),
        ("missing.jsonl", ""),
        ("row.jsonl", " (did you mean '{}/rows.jsonl'?)"),
        ("rows.jsn", " (did you mean '{}/rows.jsonl'?)"),
    ],
)
def test_an_equal_ending_makes_no_name_the_nearest(typed: str, hint: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "wrong.jsonl", "rows.jsonl"):
        (tmp_path / name).touch()
    assert nearest_beside(tmp_path / typed) == hint.format(tmp_path)
