"""Claims about runs that are copied to a bucket: a real S3 server on loopback, kills, failures, an empty machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.object_store import KEYS, Bucket, Request, bucket_named, every, s3_server
from tests.training.command_line import forked, losses_of, same_bits, train, train_fails, write_recipe
from tests.training.stops import interrupted

from instil.errors import RecipeError
from instil.recipe import Recipe
from instil.training.checkpoints import mirror
from instil.training.checkpoints.mirrored_run import MirroredRun
from instil.training.checkpoints.retention import step_of
from instil.training.records.run_folder import Run


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(server: int, tmp_path: Path) -> Iterator[Bucket]:
    with bucket_named(f"runs-{abs(hash(tmp_path))}", server) as made:
        yield made


def recipe_to(bucket: Bucket, folder: Path, *, base: Path, rows: Path, every: int = 2) -> Path:
    """Write the plain recipe with a mirror in a bucket."""
    return write_recipe(folder, {"checkpoint": {"every": every, "mirror": bucket.url}}, base=base, rows=rows)


def steps_in(bucket: Bucket) -> list[int]:
    """Return the steps whose checkpoints are whole in the bucket."""
    keys = [key for key in bucket.names() if key.endswith("/manifest.json")]
    return [step_of(Path(key).parent) for key in keys]


def on_an_empty_machine(recipe: Path) -> None:
    """Remove the run folder, as on a machine that has never seen the run."""
    shutil.rmtree(recipe.parent / "run")


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_run_arrives_and_is_read_back_on_an_empty_machine(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    run = train(recipe)
    assert same_bits(run, reference)
    here = {path.relative_to(tmp_path).as_posix(): path for path in (tmp_path / "run").rglob("*") if path.is_file()}
    wanted = {name for name in here if "/." not in name}
    assert wanted == set(bucket.names())
    assert len(wanted) > 20
    assert {name for name in wanted if bucket.get(name) != here[name].read_bytes()} == set()
    said = capsys.readouterr().out
    assert f"{bucket.url}/run, while the run goes on" in said
    assert f"copied to {bucket.url}/run" in said
    everything = said + "".join(bucket.get(key).decode("utf-8", "replace") for key in bucket.names())
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in everything
    on_an_empty_machine(recipe)
    again = train(recipe, "--resume")
    assert again.finished
    assert same_bits(again, reference)
    assert again.results == json.loads(bucket.get("run/results.json"))
    assert "this run is finished" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.slow
def test_a_run_killed_while_it_trains_goes_on_from_the_bucket_to_the_same_bits(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    child = forked("train", str(recipe), said=tmp_path / "said")
    try:
        wait_until(lambda: bool(steps_in(bucket)))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    on_an_empty_machine(recipe)
    resumed = train(recipe, "--resume")
    assert losses_of(resumed) == losses_of(reference)
    assert same_bits(resumed, reference)


@pytest.mark.slow
def test_a_killed_upload_leaves_the_checkpoint_before_whole(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    reached, release = threading.Event(), threading.Event()

    def hold(request: Request) -> int:
        """Hold back the second checkpoint's last file but the manifest."""
        is_second = bool(steps_in(bucket)) and "/checkpoints/" in request.path
        if request.method == "PUT" and is_second and "weights-" in request.path:
            reached.set()
            release.wait(60)
            return 500
        return 0

    bucket.relay.fail = hold
    child = forked("train", str(recipe), said=tmp_path / "said")
    try:
        assert reached.wait(120), (tmp_path / "said").read_text()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        release.set()
    bucket.relay.fail = lambda request: 0
    whole = steps_in(bucket)
    begun = {key.split("/")[2] for key in bucket.names() if "/checkpoints/" in key}
    assert len(whole) == 1
    assert len(begun) == 2
    on_an_empty_machine(recipe)
    resumed = train(recipe, "--resume")
    assert same_bits(resumed, reference)
    assert steps_in(bucket) == [step_of(path) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]


@pytest.mark.slow
def test_a_copy_that_ends_while_the_next_checkpoint_is_written_removes_nothing_newer(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the newest checkpoint, of which it had not heard yet, for one that the run had found damaged."""
    begun, release = threading.Event(), threading.Event()

    def hold(request: Request) -> int:
        if request.method == "PUT" and "step-000002/manifest" in request.path:
            begun.set()
            release.wait(60)
        return 0

    bucket.relay.fail = hold
    own, found = mirror.Mirror.saved, []

    def saved(self: mirror.Mirror, step: int, *, best: int | None) -> list[str]:
        if step == 4:
            assert begun.wait(60)
            release.set()
            wait_until(lambda: self._held is None)
            found.append((tmp_path / "run" / "checkpoints" / "step-000004" / "manifest.json").exists())
        return own(self, step, best=best)

    monkeypatch.setattr(mirror.Mirror, "saved", saved)
    run = train(recipe_to(bucket, tmp_path, base=base, rows=rows))
    assert found == [True]
    assert same_bits(run, reference)
    assert steps_in(bucket) == [step_of(path) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]


@pytest.mark.slow
@pytest.mark.long
def test_a_server_that_fails_every_fifth_request_gets_all_of_the_run(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows, every=6)
    bucket.relay.fail = every(5)
    run = train(recipe)
    assert same_bits(run, reference)
    assert sum(request.status == 503 for request in bucket.relay.requests) > 5
    bucket.relay.fail = lambda request: 0
    assert bucket.get("run/results.json") == (tmp_path / "run" / "results.json").read_bytes()
    assert steps_in(bucket) == [step_of(path) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]


@pytest.mark.slow
def test_a_bucket_that_goes_away_costs_no_step_and_the_end_says_what_is_missing(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, reference: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    bucket.relay.fail = lambda request: 403 if steps_in(bucket) else 0
    error = train_fails(recipe, capsys=capsys)
    assert error.startswith(f"error: {bucket.url}/run: not copied: the checkpoint of step 12, ")
    assert "(access is refused)" in error
    assert f"Expected all of {tmp_path / 'run'}, which is complete on this machine." in error
    assert same_bits(Run.open(tmp_path / "run"), reference)
    assert steps_in(bucket) != []
    bucket.relay.fail = lambda request: 0
    assert train(recipe, "--resume").finished
    assert 12 in steps_in(bucket)
    assert bucket.get("run/results.json") == (tmp_path / "run" / "results.json").read_bytes()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_server_that_is_down_is_waited_for_at_the_end_and_then_reported(
    tmp_path: Path,
    bucket: Bucket,
    base: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE", 0.0)
    monkeypatch.setattr("instil.remote.storage._FIRST_PAUSE", 0.01)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows, every=12)
    bucket.relay.fail = lambda request: 503 if "/checkpoints/" in request.path and request.method == "PUT" else 0
    assert "not copied: the checkpoint of step 12" in train_fails(recipe, capsys=capsys)
    assert Run.open(tmp_path / "run").finished
    assert steps_in(bucket) == []


@pytest.mark.slow
def test_a_stopped_run_waits_until_its_last_checkpoint_is_there(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows, every=12)
    interrupted(monkeypatch, recipe, 5)
    assert 5 in steps_in(bucket)
    assert len(bucket.get("run/metrics.jsonl").splitlines()) >= 5


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_damaged_checkpoint_in_the_bucket_is_passed_over(
    tmp_path: Path,
    bucket: Bucket,
    base: Path,
    rows: Path,
    reference: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 7)
    first, second = steps_in(bucket)[-2:]
    key = f"run/checkpoints/step-{second:06d}/weights-00000.safetensors"
    bucket.put(key, bucket.get(key)[:-4] + b"\0\1\2\3")
    on_an_empty_machine(recipe)
    resumed = train(recipe, "--resume")
    said = capsys.readouterr().out
    assert f"damaged checkpoint: {bucket.url}/{key}: its checksum is not the one in manifest.json" in said
    assert f"copied back, up to step {first}" in said
    assert same_bits(resumed, reference)


@pytest.mark.slow
def test_a_place_that_cannot_be_used_is_refused_before_anything_is_prepared(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_to(bucket, tmp_path, base=base, rows=rows)
    bucket.put("run/recipe.yaml", b"model: demo\n")
    assert f"{bucket.url}/run: holds a run. Expected an empty place." in train_fails(recipe, capsys=capsys)
    bucket.relay.fail = lambda request: 403 if request.method == "PUT" else 0
    other = write_recipe(tmp_path / "b", {"checkpoint": {"mirror": f"{bucket.url}/b"}}, base=base, rows=rows)
    refused = train_fails(other, capsys=capsys)
    assert f"{bucket.url}/b/run: the run cannot be copied there (access is refused)" in refused
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "b" / "run").exists()
    assert bucket.names() == ["run/recipe.yaml"]


@pytest.mark.slow
def test_names_in_a_bucket_lead_nowhere_else(bucket: Bucket) -> None:
    bucket.put("run/%2E%2E/%2E%2E/stolen.txt", b"x")
    bucket.put("run/.lock", b"x")
    bucket.put("run/recipe.yaml", b"x")
    assert any("../stolen.txt" in key for key in bucket.names())
    assert list(MirroredRun(f"{bucket.url}/run").contents().files) == ["recipe.yaml"]


def test_an_output_in_a_bucket_is_a_folder_here_and_its_mirror() -> None:
    recipe = Recipe.from_mapping({"output": "s3://bucket/team/{name}"}, name="first")
    assert recipe.output == "runs/first"
    assert recipe.checkpoint.mirror == "s3://bucket/team"
    assert Recipe.from_mapping({}).override({"output": "gs://bucket/x"}).checkpoint.mirror == "gs://bucket"
    for wrong in ("s3://bucket", "https://example.com/runs/x", "hf://owner/name/x"):
        with pytest.raises(RecipeError, match=r"output: found .* Expected a run folder in a bucket"):
            Recipe.from_mapping({"output": wrong})
    with pytest.raises(RecipeError, match=r"checkpoint\.mirror is set too"):
        Recipe.from_mapping({"output": "s3://a/b", "checkpoint": {"mirror": "s3://c"}})
    with pytest.raises(RecipeError, match=r"checkpoint\.mirror: .*the address of a folder in a bucket"):
        Recipe.from_mapping({"checkpoint": {"mirror": "runs"}})


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, at most two minutes."""
    for _ in range(2400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not hold within two minutes")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_copy_one_run_and_both_hear_of_a_place_that_is_taken(
    tmp_path: Path, bucket: Bucket, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = {"checkpoint": {"every": 4, "mirror": bucket.url}, "parallel": {"processes": 2}}
    recipe = write_recipe(tmp_path, change, base=base, rows=rows)
    assert train(recipe).finished
    assert steps_in(bucket) == [step_of(path) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    on_an_empty_machine(recipe)
    assert f"{bucket.url}/run: holds a run" in train_fails(recipe, capsys=capsys)
    assert train(recipe, "--resume").finished


@pytest.mark.slow
def test_pruning_in_a_bucket_keeps_what_pruning_on_the_disk_keeps(bucket: Bucket) -> None:
    for step in (2, 4, 6, 8):
        for name in ("state.json", "manifest.json"):
            bucket.put(f"run/checkpoints/step-{step:06d}/{name}", b"{}")
    bucket.put("run/checkpoints/step-000005/state.json", b"{}")  # a copy that was killed
    bucket.put("run/checkpoints/mine/state.json", b"{}")
    bucket.put("run/metrics.jsonl", b"{}")
    MirroredRun(f"{bucket.url}/run").prune(newest=6, keep_last=1, keep_step=2)
    assert {name.rpartition("/")[0] for name in bucket.names()} == {
        "run",
        "run/checkpoints/mine",
        "run/checkpoints/step-000002",
        "run/checkpoints/step-000006",
    }
