"""Every checkpoint of a run as an export of its own, here and on a Hub on this machine."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.exporting.hub import local_hub
from tests.tiny_chat import FACTS, folders

import instil
from instil.errors import CheckpointError, ExportError
from instil.exporting.every_checkpoint import export_every_checkpoint


def _run(place, **changes):
    lines = [json.dumps({"question": q, "answer": a}) for q, a in FACTS]
    (place / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "model": {"name": str(folders()["base"])},
        "data": {"sources": [str(place / "rows.jsonl")], "heldout_max": 0},
        "training": {"max_steps": 3, "precision": "fp32"},
        "optimizer": {"lr": 0.01},
        "checkpoint": {"every": 1, "keep_last": 2},
        "evaluate": {"samples": []},
        "output": str(place / "run"),
        "device": "cpu",
    } | changes
    instil.train(instil.Recipe.from_mapping(recipe), quiet=True)
    return place / "run"


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def adapter_run(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("lora"), adapter={"kind": "lora", "rank": 2})


def _weights(folder):
    return load_file(folder / "model.safetensors")


def _equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full_run", pytest.param("adapter_run", marks=pytest.mark.long)])
def test_each_checkpoint_gives_the_model_of_its_step(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    done = dict(export_every_checkpoint(run, tmp_path / "out", dtype="fp32", device="cpu"))
    assert list(done) == ["step-2", "step-3", "final"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["final", "step-2", "step-3"]
    step_2, step_3, final = (_weights(exported.folder) for exported in done.values())
    assert step_2.keys() == step_3.keys() == final.keys()
    if kind == "full_run":
        assert _equal(step_3, final)  # the last checkpoint is the run's model, bit for bit
    else:
        assert all(torch.allclose(step_3[name], final[name], atol=1e-6) for name in final)  # merged once more
    assert not _equal(step_2, step_3)
    card = (done["step-2"].folder / "README.md").read_text("utf-8")
    assert "# out, step 2" in card
    assert "| weights of | step 2 |" in card
    assert str(run) not in card


@pytest.mark.long
@pytest.mark.slow
def test_python_uploads_each_to_a_branch_and_the_model_with_its_tags(adapter_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecrettoken1234")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with local_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.endpoint)
        done = instil.export(
            adapter_run, tmp_path / "out", target="adapter", every_checkpoint=True, push="me/model", tags=["v1"],
            public=True, device="cpu",
        )  # fmt: skip
        assert [branch for branch, _ in hub.commits] == ["step-2", "step-3", "main"]
        assert hub.tags == {"v1": "3" * 40}
        assert hub.created
        assert not hub.is_private
        card = hub.commits[0][1]["README.md"].decode()
        assert 'pipeline("text-generation", "me/model", revision="step-2")' in card
        assert 'pipeline("text-generation", "me/model")' in hub.commits[2][1]["README.md"].decode()
    assert [one.folder.name for one in done.checkpoints] == ["step-2", "step-3"]
    assert [line.split(":")[0] for line in done.uploaded] == ["step-2", "step-3", "main", "tag v1"]


@pytest.mark.slow
def test_a_failure_names_what_is_complete(full_run, tmp_path, monkeypatch):
    from instil.exporting import every_checkpoint

    export, calls = every_checkpoint.export, []

    def fails_at_the_second(name, out, **settings):
        calls.append(out)
        if len(calls) == 2:
            raise ExportError("parity: differs.")
        return export(name, out, **settings)

    monkeypatch.setattr(every_checkpoint, "export", fails_at_the_second)
    with pytest.raises(ExportError, match=r"parity: differs\. Complete in .*out are: step-2\."):
        list(export_every_checkpoint(full_run, tmp_path / "out", device="cpu"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["step-2"]


def test_what_is_no_run_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ExportError, match="is no run"):
        list(export_every_checkpoint(folders()["tuned"], tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_or_missing_checkpoint_is_refused_and_nothing_is_left(full_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(full_run, copy)
    (copy / "checkpoints" / "step-000002" / "weights-00000.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="checksum"):
        list(export_every_checkpoint(copy, tmp_path / "out"))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ExportError, match="holds no checkpoint"):
        list(export_every_checkpoint(copy, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
