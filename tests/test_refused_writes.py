"""What the disk refuses is one line: the path that the user knows, the reason, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from instil.errors import DataError, ModelError
from instil.refused_writes import refusal_of, refused_writes


def line_of(error: Exception, path: Path) -> str:
    """Return the line that an error becomes."""
    with pytest.raises(DataError) as caught, refused_writes(path, raises=DataError, otherwise="choose another file"):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Expected free space on the disk. Free some"),
        (errno.EDQUOT, "Expected free space on the disk. Free some"),
        (errno.EFBIG, "Expected free space on the disk. Free some"),
        (errno.EROFS, "Expected a disk that is not read-only. Mount it for writing"),
        (errno.EACCES, "Expected the permission to write there. Change it"),
        (errno.EISDIR, "Expected a file, and a folder has this name. Remove it"),
        (errno.ENAMETOOLONG, "Expected a shorter name. Shorten it"),
        (errno.ELOOP, "Expected no loop of links. Fix the links"),
        (errno.ENOENT, "Expected an existing folder. Make it"),
        (errno.EIO, "Expected a disk without errors. Check it"),
        (errno.EMFILE, "Expected a place that can be written to. Fix the cause"),
    ],
)
def test_the_reason_decides_the_remedy(number: int, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    reason = os.strerror(number)
    assert line_of(OSError(number, reason, str(tmp_path / ".tmp-rows.jsonl-1")), path) == (
        f"{path}: cannot be written ({reason}). {remedy}, or choose another file."
    )


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "Error writing bytes to file. Detail: [errno 28] No space left on device",
    ],
)
def test_the_number_is_read_from_the_texts_of_other_libraries(text: str, tmp_path: Path) -> None:
    assert "cannot be written (No space left on device). Expected free space" in line_of(RuntimeError(text), tmp_path)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    path = tmp_path / "taken" / "deep" / "rows.jsonl"
    with pytest.raises(DataError) as caught, refused_writes(path, raises=DataError, otherwise="choose another"):
        path.parent.mkdir(parents=True)
    assert str(caught.value).startswith(f"{path}: cannot be written")
    assert f"Expected a folder, and {tmp_path / 'taken'} is a file. Remove it, or choose another." in str(caught.value)


def test_a_file_elsewhere_is_named_itself(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/scratch/of/a/library")
    assert line_of(error, tmp_path / "a" / "rows.jsonl").startswith("/scratch/of/a/library: cannot be written")
    copied = OSError(errno.ENOSPC, "No space left on device", "/base/config.json", None, str(tmp_path / "a" / "x"))
    assert line_of(copied, tmp_path / "a").startswith(f"{tmp_path / 'a'}: cannot be written")


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (ValueError("wrong"), ModelError("the base (os error 28) is missing"), KeyError("x")):
        assert refusal_of(error, tmp_path) is None
        with pytest.raises(type(error)), refused_writes(tmp_path, raises=DataError, otherwise="choose another"):
            raise error
