"""Several processes (threads here) prepare one store together."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.data.encoder_of_bytes import EncoderOfBytes
from tests.data.test_preparation import rows, save

from instil.errors import DataError
from instil.preparation import encode_rows as row_work
from instil.preparation.prepare import Prepared, prepare
from instil.recipe import Recipe


@dataclass
class Threads:
    """What the members of a team share."""

    size: int
    barrier: threading.Barrier = field(init=False)
    slots: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=60)
        self.slots = [None] * self.size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.slots[rank] = value
        self.barrier.wait()
        seen = list(self.slots)
        self.barrier.wait()
        return seen


@dataclass
class Member:
    """One of them."""

    rank: int
    threads: Threads

    @property
    def size(self) -> int:
        return self.threads.size

    def tell(self, value: Any) -> Any:
        return self.threads.exchange(self.rank, value)[0]

    def collect(self, value: Any) -> list[Any]:
        seen = self.threads.exchange(self.rank, value)
        return seen if self.rank == 0 else []


def together(size: int, work: Callable[[Member], Prepared]) -> list[Prepared | BaseException]:
    threads = Threads(size)
    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(work, Member(rank, threads)) for rank in range(size)]
        return [future.exception() or future.result() for future in futures]


def recipe_of(store: Path, source: str, **data: Any) -> Recipe:
    return Recipe.from_mapping({"data": {"sources": [source], "store": str(store), **data}})


def bytes_of(prepared: Prepared) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.folder.iterdir()}


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
    read = row_work.ReadRows.__init__

    def counted(self: row_work.ReadRows, chunk: Any, work: Any) -> None:
        worked.append(chunk.places[0].row)
        read(self, chunk, work)

    monkeypatch.setattr(row_work.ReadRows, "__init__", counted)
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
