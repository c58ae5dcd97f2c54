"""Claims about preparation on Ray: the bytes, ledger and errors of one process, whatever stops on the way."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.preparation.cluster.slow_encoder import SlowEncoder, begun
from tests.preparation.encoder_of_bytes import EncoderOfBytes
from tests.preparation.prepared_data import rows, save

from instil.errors import EncodingError, FormatError, InstilError, MissingPackageError, RecipeError
from instil.preparation.cluster.encode_on_ray import end_tasks
from instil.preparation.prepare import Prepared, prepare
from instil.ray_cluster import connected
from instil.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra ray)")


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    """One Ray for all tests of this file: starting it takes longer than all of them."""
    with connected(setting="data.cluster", processes=2):
        yield


def prepared(store: Path, sources: Any, *, encoder: Any = None, say: Any = None, **data: Any) -> Prepared:
    recipe = Recipe.from_mapping({"data": {"sources": sources, "store": str(store), "heldout_max": 40, **data}})
    return prepare(recipe, encoder or EncoderOfBytes(), say=say)


def bytes_of(prepared: Prepared) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.folder.iterdir()}


def folders_in(store: Path) -> list[str]:
    return [path.name for path in store.iterdir() if path.is_dir()]


@needs_ray
@pytest.mark.slow
def test_the_store_has_the_bytes_of_one_process(tmp_path: Path, ray_of_two: None) -> None:
    data = tmp_path / "data"
    data.mkdir()
    given: list[Any] = rows(1300)
    given[600] = {"neither": "format"}
    given[700] = {"question": "REFUSE", "answer": "x"}
    given[800] = ""
    save(data / "a.jsonl", given[:900])
    save(data / "b.jsonl", given[900:])
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(700, first=5000))
    sources = [str(data), str(tmp_path / "c.jsonl.gz"), {"path": str(data / "b.jsonl"), "rows": 50, "weight": 0.5}]
    alone = prepared(tmp_path / "alone", sources, on_bad_row="skip")
    lines: list[str] = []
    there = prepared(tmp_path / "ray", sources, on_bad_row="skip", cluster="ray", say=lines.append)
    assert alone.ledger.left_out
    assert alone.heldout_conversations
    assert bytes_of(there) == bytes_of(alone)
    assert folders_in(tmp_path / "ray") == [there.folder.name]
    assert [
        line for line in lines if "c.jsonl.gz: its rows pass through this process, because c.jsonl.gz: it is" in line
    ]
    assert [
        line for line in lines if "b.jsonl: its rows pass through this process, because some of them are dr" in line
    ]
    assert not [line for line in lines if str(data) + ":" in line]
    assert "2,049 rows: below 10,000, one machine is faster" in lines[-1]
    assert prepared(tmp_path / "ray", sources, on_bad_row="skip").reused


@needs_ray
@pytest.mark.slow
def test_a_stopped_task_has_ended_before_its_folder_is_removed(tmp_path: Path, ray_of_two: None) -> None:
    import ray

    def write_late(folder: Path) -> None:
        (folder / "begun").touch()
        try:
            for _ in range(6000):  # Ray stops a task between two steps of Python
                time.sleep(0.01)
        finally:
            time.sleep(0.5)
            (folder / "written").touch()

    task = ray.remote(num_cpus=1)(write_late).remote(tmp_path)
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    end_tasks(ray, [task])
    assert (tmp_path / "written").exists()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "kind"), [({"neither": "format"}, FormatError), ({"question": "REFUSE", "answer": "x"}, EncodingError)]
)
def test_the_first_bad_row_is_the_error_with_its_line(
    tmp_path: Path, ray_of_two: None, bad: dict[str, str], kind: type[InstilError]
) -> None:
    given: list[Any] = rows(2600)
    given[600] = given[601] = given[1100] = given[2500] = bad
    source = save(tmp_path / "a.jsonl", given)
    errors = []
    for name in ("none", "ray"):
        with pytest.raises(InstilError) as raised:
            prepared(tmp_path / name, source, cluster=name)
        errors.append(raised.value)
    assert type(errors[1]) is type(errors[0]) is kind
    assert str(errors[1]) == str(errors[0])
    assert "a.jsonl:601" in str(errors[1])
    assert not (tmp_path / "ray").exists() or folders_in(tmp_path / "ray") == []


@needs_ray
@pytest.mark.slow
def test_an_interrupted_preparation_goes_on_from_its_shards(tmp_path: Path, ray_of_two: None) -> None:
    source, notes = save(tmp_path / "a.jsonl", rows(512 * 8)), tmp_path / "notes"
    notes.mkdir()
    alone = prepared(tmp_path / "alone", source)
    encoder = SlowEncoder(notes, 0.0)

    def interrupt(num_rows: int) -> None:
        if num_rows > 1500:
            raise KeyboardInterrupt

    recipe = Recipe.from_mapping(
        {"data": {"sources": [source], "store": str(tmp_path / "ray"), "heldout_max": 40, "cluster": "ray"}}
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, encoder, on_progress=interrupt)  # type: ignore[arg-type]
    before = begun(notes)
    lines: list[str] = []
    there = prepare(recipe, encoder, say=lines.append)  # type: ignore[arg-type]
    assert bytes_of(there) == bytes_of(alone)
    assert [line for line in lines if "were encoded before an interruption" in line]
    again = begun(notes)
    for first in (1, 513, 1025):
        assert before.count(first) == again.count(first) == 1
    assert set(again) == {1 + 512 * number for number in range(8)}
    assert folders_in(tmp_path / "ray") == [there.folder.name]


def script_of(tmp_path: Path, source: str, store: Path, seconds: float) -> list[str]:
    code = (
        "from pathlib import Path\n"
        "from instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.preparation.cluster.slow_encoder import SlowEncoder\n"
        f"data = {{'sources': [{source!r}], 'store': {str(store)!r}, 'heldout_max': 40, 'cluster': 'ray', 'workers': 2}}\n"
        f"prepare(Recipe.from_mapping({{'data': data}}), SlowEncoder(Path({str(tmp_path / 'notes')!r}), {seconds}), say=print)\n"
    )
    return [sys.executable, "-c", code]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "RAY_worker_niceness": "0"}


@needs_ray
@pytest.mark.exhaustive
def test_a_killed_driver_goes_on_from_the_shards_that_are_whole(tmp_path: Path) -> None:
    source, store = save(tmp_path / "a.jsonl", rows(512 * 8)), tmp_path / "ray"
    (tmp_path / "notes").mkdir()
    command = script_of(tmp_path, source, store, 0.5)
    driver = subprocess.Popen(command, env=environment())
    while len(list(store.glob(".tmp-*-shards/0*.arrow"))) < 3:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    whole = {int(path.stem) for path in store.glob(".tmp-*-shards/0*.arrow")}
    before = begun(tmp_path / "notes")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert "were encoded before an interruption" in done.stdout
    after = begun(tmp_path / "notes")
    assert all(after.count(1 + 512 * number) == before.count(1 + 512 * number) for number in whole)
    assert bytes_of(prepared(store, source)) == bytes_of(prepared(tmp_path / "alone", source))
    assert len(folders_in(store)) == 1


@needs_ray
@pytest.mark.exhaustive
def test_a_node_killed_midway_changes_nothing(tmp_path: Path) -> None:
    source, store = save(tmp_path / "a.jsonl", rows(512 * 12)), tmp_path / "ray"
    (tmp_path / "notes").mkdir()
    code = script_of(tmp_path, source, store, 1.0)[2]
    lines = (
        "import threading, time",
        "from pathlib import Path",
        "from ray.cluster_utils import Cluster",
        "head = dict(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)",
        "cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)",
        "second = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)",
        "cluster.wait_for_nodes()",
        "def kill():",
        f"    while len(list(Path({str(tmp_path / 'notes')!r}).iterdir())) < 4: time.sleep(0.05)",
        "    cluster.remove_node(second, allow_graceful=False)",
        "    print('killed')",
        "killer = threading.Thread(target=kill)",
        "killer.start()",
        code,
        "killer.join()",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "nodes 2, processors 2" in done.stdout
    assert "killed" in done.stdout
    assert len(begun(tmp_path / "notes")) > 12  # what the node had begun was begun again
    assert bytes_of(prepared(store, source)) == bytes_of(prepared(tmp_path / "alone", source))


def test_the_key_of_a_store_does_not_know_the_cluster(tmp_path: Path) -> None:
    source = save(tmp_path / "a.jsonl", rows(30))
    alone = prepared(tmp_path / "store", source)
    assert prepared(tmp_path / "store", source, cluster="ray").folder == alone.folder


def test_a_client_address_is_refused_with_the_one_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(RecipeError, match=r"data.cluster: RAY_ADDRESS is ray://head:10001.*set RAY_ADDRESS=auto"):
        prepared(tmp_path / "store", save(tmp_path / "a.jsonl", rows(30)), cluster="ray")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"data.cluster: the package ray .*pip install 'instil\[ray\]'"):
        prepared(tmp_path / "store", save(tmp_path / "a.jsonl", rows(30)), cluster="ray")
