"""Claims about worker processes, and about several processes (threads here) that prepare one store together."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.preparation.encoder_of_bytes import EncoderOfBytes
from tests.preparation.prepared_data import rows, run, save
from tests.preparation.team_of_threads import together

from instil.data.formats.row_format import ReadOptions
from instil.errors import DataError
from instil.preparation import encode_rows, workers
from instil.preparation.chunks import Input, cut
from instil.preparation.encode_rows import SourceWork, Work, encode_chunk
from instil.preparation.prepare import Prepared, prepare
from instil.recipe import Recipe, Source

ROOT = Path(__file__).resolve().parents[2]


def recipe_of(store: Path, source: str, **data: Any) -> Recipe:
    return Recipe.from_mapping({"data": {"sources": [source], "store": str(store), **data}})


def bytes_of(prepared: Prepared) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_team_writes_the_bytes_that_one_process_writes(tmp_path: Path, size: int) -> None:
    source = save(tmp_path / "a.jsonl", rows(1600))  # four chunks
    alone = prepare(recipe_of(tmp_path / "alone", source), EncoderOfBytes())  # type: ignore[arg-type]
    recipe = recipe_of(tmp_path / "team", source)
    made = together(size, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert [type(one) for one in made] == [Prepared] * size
    for one in made:
        assert isinstance(one, Prepared)
        assert not one.reused
        assert bytes_of(one) == bytes_of(alone)
        assert len(one.train) == len(alone.train)
    again = together(size, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert all(isinstance(one, Prepared) and one.reused for one in again)


def test_each_works_on_its_own_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []
    read = encode_rows.read_rows

    def counted(chunk: Any, work: Any) -> encode_rows.ReadRows:
        worked.append(chunk.places[0].row)
        return read(chunk, work)

    for module in (workers, encode_rows):
        monkeypatch.setattr(module, "read_rows", counted)
    recipe = recipe_of(tmp_path / "team", save(tmp_path / "a.jsonl", rows(1600)))
    together(2, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert sorted(worked) == [1, 513, 1025, 1537]


def test_the_first_bad_row_stops_all_with_its_place(tmp_path: Path) -> None:
    given: list[Any] = rows(1600)
    given[600] = given[1100] = {"neither": "format"}  # in the second chunk, and in the third
    recipe = recipe_of(tmp_path / "team", save(tmp_path / "a.jsonl", given))
    errors = together(2, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert [type(error) for error in errors] == [type(errors[0])] * 2
    assert all(isinstance(error, DataError) and "a.jsonl:601" in str(error) for error in errors), errors
    assert not list((tmp_path / "team").glob(".tmp-*"))


@pytest.mark.parametrize("given", [[], [{"question": "why?", "answer": ""}]])
def test_what_the_first_finds_wrong_stops_all(tmp_path: Path, given: list[Any]) -> None:
    recipe = recipe_of(tmp_path / "team", save(tmp_path / "a.jsonl", given))
    errors = together(2, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert all(isinstance(error, DataError) for error in errors)
    assert str(errors[0]) == str(errors[1])


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("num_bytes", [1 << 10, 40 << 10, 250 << 10])
@pytest.mark.parametrize("size", [1, 2])
def test_a_full_disk_is_told_to_all_and_leaves_nothing_half_written(tmp_path: Path, size: int, num_bytes: int) -> None:
    recipe = recipe_of(tmp_path / "team", save(tmp_path / "a.jsonl", rows(1600)))
    with room_for(num_bytes):
        errors = together(size, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert [type(error) for error in errors] == [DataError] * size, errors
    assert {str(error) for error in errors} == {str(errors[0])}
    assert "prepared data cannot be written (" in str(errors[0])
    assert not (tmp_path / "team").exists()
    made = together(size, lambda member: prepare(recipe, EncoderOfBytes(), team=member))  # type: ignore[arg-type]
    assert all(isinstance(one, Prepared) and not one.reused for one in made), made


@pytest.mark.parametrize("number", [1, 3])
def test_the_first_of_two_bad_rows_is_named_whatever_the_number_of_workers(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(workers, "_encode_in_worker", lambda chunk: encode_chunk(chunk, EncoderOfBytes(), work))
    work = Work((SourceWork("auto", ReadOptions(), 1.0, 0.0),))
    given = [*rows(600), {"neither": "format"}, *rows(1000, first=600)]
    path = tmp_path / "a.json"
    path.write_text(
        "[\n" + ",\n".join(map(json.dumps, given)) + ",\n broken]"
    )  # read while the second chunk is worked on
    found = Input(Source(path=str(path)), ((path, str(path)),), False)
    with pytest.raises(DataError, match=r"a\.json\[600\] \(line 602\): found columns neither"):
        list(workers.map_chunks(cut([found]), EncoderOfBytes(), work, workers=number))


def test_the_store_has_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(2000))

    def made(name: str, workers: int) -> dict[str, bytes]:
        folder = run(tmp_path, workers, sources=path, store=str(tmp_path / name)).folder
        return {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir())}

    alone = made("alone", 1)
    assert alone == made("two", 2)
    assert set(alone) == {"examples.arrow", "heldout.jsonl", "heldout.npy", "ledger.json", "store.json", "train.npy"}


@pytest.mark.slow
def test_an_error_in_a_worker_names_the_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [*rows(600), '{"foo": 1}', *rows(600)])
    with pytest.raises(DataError, match=f"{path}:601: found columns foo"):
        run(tmp_path, 2, sources=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "num_rows", "code", "tracebacks"),
    [("os.kill(os.getpid(), signal.SIGKILL)", 3000, -9, 0), ("os.killpg(0, signal.SIGINT)", 100, -2, 1)],
    ids=["killed", "Ctrl-C"],
)
def test_workers_end_with_the_process_that_was_killed_and_leave_ctrl_c_to_it(
    tmp_path: Path, ends: str, num_rows: int, code: int, tracebacks: int
) -> None:
    path = save(tmp_path / "a.jsonl", rows(num_rows))
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, os, signal, sys\n"
        "from instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.preparation.encoder_of_bytes import EncoderOfBytes\n"
        "def end(rows):\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        f"    {ends}\n"
        "if __name__ == '__main__':\n"
        "    recipe = Recipe.from_mapping({'data': {'sources': sys.argv[1], 'store': sys.argv[2]}})\n"
        "    prepare(recipe, EncoderOfBytes(), workers=2, on_progress=end)\n"
    )
    command = [sys.executable, str(tmp_path / "killed.py"), path, str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    # the workers inherit the pipes, so that they end when the last of them has; a terminal sends Ctrl-C to all of a session
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, timeout=100, start_new_session=True
    )
    assert done.returncode == code
    assert len(done.stdout.split()) == (2 if num_rows > 1000 else 1)  # one is started when none is idle
    assert done.stderr.count(b"Traceback") == tracebacks, done.stderr.decode()
