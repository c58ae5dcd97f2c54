"""A base that is stored quantised: what will be written is said before the first step, and the run ends well."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.training.command_line import exit_code, train, write_recipe

from instil.training.records.run_folder import Run

pytest.importorskip("bitsandbytes")
LORA = {"adapter": {"kind": "lora", "rank": 2}, "training": {"max_steps": 2}}


@pytest.fixture(scope="module", params=["4bit", "8bit"])
def stored(
    request: pytest.FixtureRequest, base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Return a kind of quantisation and a tiny model folder that is stored so."""
    from instil.encoding.loading import load_tokenizer
    from instil.model.loading import load_model
    from instil.recipe import ModelSettings

    kind, folder = request.param, tmp_path_factory.mktemp("stored")
    first = train(write_recipe(folder, {"training": {"max_steps": 1}}, base=base, rows=rows)).folder
    settings = ModelSettings(name=str(first), quantize=kind)
    load_model(settings, precision="fp32", purpose="generation").save_pretrained(folder / "model")
    load_tokenizer(first / "model").save_pretrained(folder / "model")
    return kind, folder / "model"


@pytest.mark.slow
def test_the_run_ends_with_a_model_of_ordinary_weights(
    stored: tuple[str, Path], tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, base = stored
    recipe = write_recipe(tmp_path, LORA, {"model": {"quantize": kind}}, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 0
    planned = capsys.readouterr().out
    assert "its weights are unpacked to 16 bits" in planned
    run = train(recipe)
    # Packed numbers are no parameters: the card counts what the plan counts.
    card = "".join(capsys.readouterr())
    assert (
        re.search(r"\((\S+) parameters\)", card)[1]
        == re.search(r"parameters +(\S+) and \S+ of the adapter,", planned)[1]
    )
    assert "quantization_config" not in json.loads((run.folder / "model" / "config.json").read_text())
    assert abs(run.results["written_model_loss"] - run.results["trained_model_loss"]) < 0.1
    assert (
        exit_code(
            "generate",
            str(run.folder),
            "--prompts",
            str(rows),
            "--out",
            str(tmp_path / "o"),
            "--limit",
            "2",
            "--max-new-tokens",
            "2",
        )
        == 0
    )
    assert exit_code("train", str(recipe), "--resume") == 0
    assert Run.open(run.folder).finished


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "adapter"), [("none", "lora"), ("none", "none"), ("other", "lora")])
def test_a_setting_that_does_not_fit_names_the_cause_before_the_data_is_read(
    stored: tuple[str, Path],
    quantize: str,
    adapter: str,
    tmp_path: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, base = stored
    other = {"4bit": "8bit", "8bit": "4bit"}[kind]
    change = {"model": {"quantize": other if quantize == "other" else quantize}, "adapter": {"kind": adapter}}
    recipe = write_recipe(tmp_path, change, base=base, rows=rows)
    for verb in ("plan", "train"):
        assert exit_code(verb, str(recipe)) == 2
        assert f"are stored as {kind}. Set model.quantize: {kind} with adapter.kind: lora" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_method_is_named(base: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.copytree(base, tmp_path / "gptq")
    path = tmp_path / "gptq" / "config.json"
    config = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    path.write_text(json.dumps(config))
    assert exit_code("train", str(write_recipe(tmp_path / "w", LORA, base=tmp_path / "gptq", rows=rows))) == 2
    assert "are stored quantised (gptq)" in capsys.readouterr().err
