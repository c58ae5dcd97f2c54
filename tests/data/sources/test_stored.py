"""Claims about files in buckets and on web servers, read from a real S3 server on loopback."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.sources.raw_rows import LINES, ROWS, error_of, rows_of, zst
from tests.object_store import KEYS, Bucket, bucket_named, every, s3_server
from tests.preparation.prepared_data import rows, run, save

from instil.data import read
from instil.data.sources.files import find_files
from instil.data.sources.rows import read_file, read_raw_rows
from instil.errors import DataError, MissingPackageError
from instil.recipe import Recipe

LARGE = [{"question": f"What is {n}?", "answer": "x" * 1000} for n in range(12_000)]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INSTIL_FULL_URLS", raising=False)
    monkeypatch.setenv("INSTIL_FULL_URLS", "{}")
    with bucket_named(f"data-{abs(hash(tmp_path))}", server) as made:
        yield made


def files_of_every_kind() -> dict[str, bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["question", "answer"])
    writer.writeheader()
    writer.writerows(ROWS)
    parquet, arrow = io.BytesIO(), io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, parquet)
    with pa.ipc.new_stream(arrow, table.schema) as stream:
        stream.write_table(table)
    return {
        "a.jsonl": LINES,
        "a.json": json.dumps(ROWS, indent=1).encode(),
        "a.csv": text.getvalue().encode(),
        "a.jsonl.gz": gzip.compress(LINES),
        "a.jsonl.zst": zst(LINES),
        "a.parquet": parquet.getvalue(),
        "a.arrow": arrow.getvalue(),
    }


@pytest.mark.slow
def test_every_kind_of_file_is_read_from_a_bucket_as_from_the_disk(bucket: Bucket, tmp_path: Path) -> None:
    for name, data in files_of_every_kind().items():
        (tmp_path / name).write_bytes(data)
        assert rows_of(bucket.put(name, data)) == rows_of(tmp_path / name), name
        assert [row for _, row in rows_of(f"{bucket.web}/{name}")] == ROWS, name
    place = next(read(f"{bucket.url}/a.jsonl")).place
    assert str(place) == f"{bucket.url}/a.jsonl:1"


@pytest.mark.slow
def test_a_folder_its_splits_and_a_pattern_are_found_as_on_the_disk(bucket: Bucket) -> None:
    for key in ("set/train.jsonl", "set/test.jsonl", "set/.hidden.jsonl", "set/notes.md", "odd name+é.jsonl"):
        bucket.put(key.replace(" ", "%20").replace("é", "%C3%A9"), LINES)
    names = {
        address: [str(path).removeprefix(f"{bucket.url}/") for path in find_files(address)]
        for address in (f"{bucket.url}/set", f"{bucket.url}/set/", f"{bucket.url}/set/*.jsonl")
    }
    assert list(names.values()) == [["set/train.jsonl"], ["set/train.jsonl"], ["set/test.jsonl", "set/train.jsonl"]]
    assert [path.name for path in find_files(f"{bucket.url}/set", split="all")] == ["test.jsonl", "train.jsonl"]
    assert len(rows_of(f"{bucket.url}/odd name+é.jsonl")) == len(ROWS)
    with pytest.raises(DataError, match=r"has no split 'dev'\. Expected one of: train, test, or all"):
        find_files(f"{bucket.url}/set", split="dev")
    bucket.put("saved/dataset_dict.json", b"{}")
    bucket.put("saved/train/data-00000.arrow", b"")
    bucket.put("saved/test/data-00000.arrow", b"")
    assert [str(path) for path in find_files(f"{bucket.url}/saved")] == [f"{bucket.url}/saved/train/data-00000.arrow"]


@pytest.mark.slow
def test_the_first_rows_of_a_large_file_cost_few_bytes_and_a_second_pass_costs_none(bucket: Bucket) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in LARGE).encode()
    url = bucket.put("large.jsonl", lines)
    assert len(lines) > 12_000_000
    assert len(list(islice(read_raw_rows(url), 20))) == 20
    assert bucket.relay.bytes_read <= 1 << 20
    first = [raw for _, raw in read_raw_rows(url)]
    assert b"".join(first) == lines
    before, requests = bucket.relay.bytes_read, len(bucket.relay.requests)
    assert before < len(lines) * 1.1
    assert requests < 30
    assert [raw for _, raw in read_raw_rows(url)] == first
    assert bucket.relay.bytes_read == before


@pytest.mark.slow
def test_the_cache_keeps_to_its_bound(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instil.remote.block_cache._LOOK_EVERY", 2)
    monkeypatch.setenv("INSTIL_REMOTE_CACHE", str(4 / 1024))
    lines = "".join(json.dumps(row) + "\n" for row in LARGE).encode()
    url = bucket.put("large.jsonl", lines)
    assert b"".join(raw for _, raw in read_raw_rows(url)) == lines
    kept = sum(path.stat().st_size for path in (tmp_path / "cache" / "remote").rglob("*") if path.is_file())
    assert 0 < kept <= 4 << 20
    monkeypatch.setenv("INSTIL_REMOTE_CACHE", "much")
    with pytest.raises(DataError, match=r"INSTIL_REMOTE_CACHE: found 'much'\. Expected a number of GiB"):
        rows_of(url)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "meanwhile", "removed"])
def test_a_file_that_changes_while_it_is_read_is_refused(bucket: Bucket, when: str) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in LARGE[:4000]).encode()
    url = bucket.put("a.jsonl", lines)
    (path,) = find_files(url)
    reader = read_file(path)
    if when != "before":
        next(reader)
    if when == "removed":
        bucket._ask("DELETE", "a.jsonl")
    else:
        bucket.put("a.jsonl", lines.replace(b"x", b"y"))
    with pytest.raises(DataError) as caught:
        list(reader)
    found = "it is gone" if when == "removed" else f"it is now {len(lines):,} bytes, version "
    assert str(caught.value).startswith(f"{url}: changed while it was read: {found}")
    assert f"Expected what was found at the start: {len(lines):,} bytes, version " in str(caught.value)
    assert "Start again when nobody writes to it" in str(caught.value)


@pytest.mark.slow
def test_a_server_that_fails_every_fifth_request_gives_the_same_rows(bucket: Bucket) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in LARGE).encode()
    url = bucket.put("large.jsonl", lines)
    bucket.relay.fail = every(5)
    assert b"".join(raw for _, raw in read_raw_rows(url)) == lines
    assert b"".join(raw for _, raw in read_raw_rows(f"{bucket.web}/large.jsonl")) == lines
    assert sum(request.status == 503 for request in bucket.relay.requests) >= 3


@pytest.mark.slow
def test_preparing_from_a_bucket_makes_the_store_of_the_disk(bucket: Bucket, tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(1100))
    url = bucket.put("a.jsonl", Path(path).read_bytes())
    here, there = run(tmp_path, sources=path), run(tmp_path, sources=url, workers=2)
    assert len(here.train) == len(there.train) > 1000
    assert all((here.train[n].token_ids == there.train[n].token_ids).all() for n in range(len(here.train)))
    assert run(tmp_path, sources=url).reused
    save(tmp_path / "a.jsonl", rows(1101))
    bucket.put("a.jsonl", Path(path).read_bytes())
    changed = run(tmp_path, sources=url)
    assert changed.folder != there.folder
    assert changed.ledger.rows_in == there.ledger.rows_in + 1


@pytest.mark.slow
def test_secrets_of_an_address_reach_the_server_and_nothing_else(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows(60)))
    secrets = ("tell-nobody", "SIGNED123", "me:tell")
    url = bucket.web.replace("://", "://me:tell-nobody@") + "/a.jsonl?X-Amz-Signature=SIGNED123&X-Amz-Expires=60"
    clean = f"{bucket.web}/a.jsonl"
    recipe = Recipe.from_mapping({"data": {"sources": url}})
    prepared = run(tmp_path, sources=url, on_bad_row="skip")
    seen = [recipe.to_yaml(), repr(recipe), str(next(read(url)).place), json.dumps(prepared.to_json())]
    seen += [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    seen += [error_of(url.replace("a.jsonl", "missing.jsonl")), error_of(url.replace("a.jsonl", "a.xyz"))]
    bucket.relay.fail = lambda request: 403
    seen.append(error_of(url))
    assert "access is refused" in seen[-1]
    assert clean in seen[0]
    assert clean in seen[2]
    assert any("X-Amz-Signature=SIGNED123" in request.path for request in bucket.relay.requests)
    assert [
        secret for secret in (*secrets, KEYS["AWS_SECRET_ACCESS_KEY"]) if any(secret in text for text in seen)
    ] == []


@pytest.mark.slow
def test_what_cannot_be_read_says_what_to_do(bucket: Bucket) -> None:
    assert error_of(f"{bucket.url}/a.jsonl") == (
        f"{bucket.url}/a.jsonl: no such file. Expected a file, a folder or a pattern with *. Check the address."
    )
    assert error_of(f"{bucket.url}/*.jsonl") == (
        f"{bucket.url}/*.jsonl: no file matches. Expected at least one. Check the pattern."
    )
    assert "unknown kind of address. Expected s3://" in error_of("ftp://host/a.jsonl")
    url = bucket.put("a.jsonl", LINES)
    bucket.relay.fail = lambda request: 403
    assert "cannot be read (access is refused)" in error_of(url)
    assert "AWS_ACCESS_KEY_ID" in error_of(url)
    for scheme, extra in (("gs", "gcs"), ("az", "azure")):
        with pytest.raises(MissingPackageError, match=rf"pip install 'instil\[{extra}\]'"):
            rows_of(f"{scheme}://bucket/a.jsonl")


@pytest.mark.slow
def test_a_web_server_that_sends_whole_files_only_is_refused(bucket: Bucket) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in LARGE[:3000]).encode()
    bucket.put("a.jsonl", lines)

    bucket.relay.ignore_ranges = True
    assert "the server sends whole files only, no parts of them" in error_of(f"{bucket.web}/a.jsonl")


def test_every_scheme_is_one_that_fsspec_knows() -> None:
    from fsspec.registry import known_implementations as known

    assert {name: known[name]["class"].partition(".")[0] for name in ("s3", "gs", "az", "hf", "https")} == {
        "s3": "s3fs",
        "gs": "gcsfs",
        "az": "adlfs",
        "hf": "huggingface_hub",
        "https": "fsspec",
    }
