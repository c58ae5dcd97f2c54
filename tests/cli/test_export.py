"""Claims about ``instil export``, through the command line."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard
from tests.tiny_chat import FACTS, folders
from tests.training.command_line import exit_code

from instil.exporting import push
from instil.exporting.export import Exported
from instil.exporting.parity import Parity


def export(*words: object) -> int:
    return exit_code("export", *map(str, words))


@pytest.mark.slow
def test_the_command_writes_the_export_and_prints_what_was_compared(tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in FACTS), encoding="utf-8")
    out = tmp_path / "out"
    assert export(folders()["run"], out, "--data", data, "--licence", "apache-2.0") == 0
    output = capsys.readouterr().out
    assert "8 prompts: ids equal" in output
    assert "weights bf16; the model's own are fp32, which --dtype fp32 keeps" in output
    assert "Next" in output.splitlines()
    assert f"vllm serve {out}" in output
    card = (out / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.license == "apache-2.0"
    assert "Tuned from `demo`" in card
    assert "8 of 8 greedy answers equal" in card


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["TUNED", "EXISTS"], "already exists"),
        (["BASE", "out"], "has no chat template"),
        (["./nowhere/at/all", "out"], "no such model folder"),
        (["TUNED", "out", "--as", "zip"], "zip"),
        (["TUNED", "out", "--data", "nothing.jsonl"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, reason, tmp_path, capsys):
    named = {"TUNED": folders()["tuned"], "BASE": folders()["base"], "EXISTS": tmp_path, "out": tmp_path / "out"}
    assert export(*[named.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_export_has_a_card_that_the_hub_reads(tmp_path, capsys):
    assert export(folders()["tuned"], tmp_path / "out") == 0
    assert "no licence in the model card" in capsys.readouterr().err
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.pipeline_tag == "text-generation"


def test_a_licence_that_is_none_is_refused(tmp_path, capsys):
    assert export(folders()["tuned"], tmp_path / "out", "--licence", "Apache 2") == 2
    assert "--licence: found 'Apache 2'. Expected" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def uploads(monkeypatch, tmp_path):
    """Replace the export and the upload; return the lists of their calls."""
    exports, uploads = [], []

    def write(model, out, **options):
        exports.append(options)
        parity = Parity(prompts=1, typed_control_tokens=0, refused=0, stop_tokens=("<|im_end|>",))
        (tmp_path / "model.safetensors").write_bytes(b"x" * 3000)
        return Exported(folder=tmp_path, parity=parity, files=("model.safetensors",), licence="mit")

    monkeypatch.setattr("instil.exporting.export.export", write)
    monkeypatch.setattr(push.Upload, "start", lambda self, tags: uploads.append((self.repository, self.private, *tags)))
    monkeypatch.setattr(push.Upload, "send", lambda self, folder, **_: self.done.append(f"main: {folder}"))
    return exports, uploads


@pytest.mark.parametrize(("words", "private"), [((), True), (("--public",), False)])
def test_a_new_repository_is_private_unless_public_is_set(words, private, uploads, tmp_path, capsys):
    assert export("model", "out", "--push", "owner/name", "--tag", "v1", "--tag", "v2", *words) == 0
    assert uploads[1] == [("owner/name", private, "v1", "v2")]
    assert uploads[0][0]["repository"] == "owner/name"
    assert f"uploaded main: {tmp_path}" in capsys.readouterr().out


def test_nothing_is_uploaded_without_push_and_fifty_rows_are_compared(uploads, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"question": f"{n}", "answer": "a"}) + "\n" for n in range(60)), encoding="utf-8"
    )
    assert export("model", "out", "--data", data, "--as", "adapter") == 0
    ((options,), uploaded) = uploads
    assert uploaded == []
    assert len(options["rows"]) == 50
    assert options["target"] == "adapter"
    output = capsys.readouterr().out
    assert f"adapter in {tmp_path}\nfiles   model.safetensors (2.9 kB)\nchecked 1 prompt: ids equal" in output
    assert export("model", "out", "--quiet") == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--tag", "v1"], "--tag: found 'v1' without --push"),
        (["--push", "name"], "Expected owner/name"),
        (["--push", "me/model", "--tag", "a b"], "Expected a name such as v1.0"),
        (["--dtype", "q4_k_m"], "Add --as gguf"),
        (["--as", "gguf", "--dtype", "iq1_s"], "needs an importance matrix"),
    ],
)
def test_wrong_options_are_refused_before_the_model_is_looked_for(words, reason, tmp_path, capsys):
    assert export("./no/model", tmp_path / "out", *words) == 2
    assert reason in capsys.readouterr().err
