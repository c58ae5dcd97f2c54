"""The files that start a recipe on a cluster: they parse, and what they call takes their options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from instil.recipe.shipped import launch_files

FILES = launch_files()
SCRIPTS = [name for name, path in FILES.items() if path.suffix in (".sh", ".sbatch")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_read_by_the_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(FILES[name])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name in FILES if name not in SCRIPTS])
def test_a_yaml_file_holds_one_mapping(name: str) -> None:
    assert isinstance(yaml.safe_load(FILES[name].read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("name", FILES)
def test_each_file_resumes_and_says_how_it_is_used(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert f"instil recipe show {name} > {FILES[name].name}" in text
    assert "--resume" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_skypilot_takes_every_field() -> None:
    """Runs where SkyPilot is installed; it is no dependency of the tests."""
    schemas = pytest.importorskip("sky.utils.schemas")
    validate = pytest.importorskip("sky.utils.common_utils").validate_schema
    task = yaml.safe_load(FILES["launch/skypilot"].read_text(encoding="utf-8"))
    validate(task, schemas.get_task_schema(), "task: ")
    validate(task["resources"], schemas.get_resources_schema(), "resources: ")
    (bucket,) = task["file_mounts"].values()
    validate(bucket, schemas.get_storage_schema(), "bucket: ")


def test_kubeflow_reads_every_field() -> None:
    """Runs where the models of Kubeflow Trainer are installed; they are no dependency of the tests."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    job = yaml.safe_load(FILES["launch/kubernetes"].read_text(encoding="utf-8"))
    # A field that they do not know is left out when it is read.
    assert_within(job, models.TrainerV1alpha1TrainJob.from_dict(job).to_dict())


def assert_within(part: object, whole: object) -> None:
    """Assert that all values of one tree are those of another."""
    if isinstance(part, dict):
        assert isinstance(whole, dict)
        for key, value in part.items():
            assert key in whole
            assert_within(value, whole[key])
    elif isinstance(part, list):
        assert isinstance(whole, list)
        assert len(part) == len(whole)
        for value, other in zip(part, whole, strict=True):
            assert_within(value, other)
    else:
        assert part == whole


def test_hugging_face_takes_the_options_of_its_job(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("hf")
    if not program.exists():
        pytest.skip("no hf beside this Python")
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "DRY_RUN": "1",
        "HF_TOKEN": "hf_none",
    }
    words = [shutil.which("bash"), str(FILES["launch/hf-jobs"]), "me/runs", "--data", "my rows.jsonl"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    if "dry-run" in done.stderr and done.returncode:
        pytest.skip("this huggingface_hub has no --dry-run")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Job not submitted" in said
    assert "hf://buckets/me/runs:/outputs" in said
    assert "'my rows.jsonl'" in said
