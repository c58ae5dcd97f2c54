"""A LoRA on a tied head or embedding: the run's model is what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.command_line import exit_code, train, write_recipe
from transformers import AutoModelForCausalLM

from instil.training.records import model_output
from instil.training.records.run_folder import Run
from instil.training.records.written_model import ROUNDED_BOUND, examples_to_check

STRONG = {"optimizer": {"lr": 5e-2}, "training": {"max_steps": 12}}


def figures(folder: Path, rows: Path, out: Path) -> dict[str, Any]:
    assert exit_code("evaluate", str(folder), "--data", str(rows), "--task", "exact_match", "--out", str(out)) == 0
    model: dict[str, Any] = json.loads((out / "evaluation.json").read_text())["model"]
    return {"loss": model["heldout"]["loss"]["value"], "match": model["figures"]["exact_match"]["exact_match"]["value"]}


@pytest.fixture(scope="module")
def chat_model(base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose model has its chat tokens, tied like its base."""
    return train(
        write_recipe(tmp_path_factory.mktemp("first"), {"training": {"max_steps": 2}}, base=base, rows=rows)
    ).folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "dora"),
    [
        pytest.param(["embed_tokens", "lm_head"], False, marks=pytest.mark.long),
        pytest.param(["q_proj"], False, marks=pytest.mark.long),
        pytest.param(["lm_head"], False, marks=pytest.mark.long),
        pytest.param(["embed_tokens"], False, marks=pytest.mark.long),
        (["q_proj", "lm_head"], True),
        (["embed_tokens", "lm_head"], True),
    ],
)
def test_model_and_adapter_have_equal_figures(
    targets: list[str], dora: bool, tmp_path: Path, chat_model: Path, rows: Path
) -> None:
    adapter = {"kind": "lora", "rank": 4, "targets": targets, "dora": dora}
    run = train(write_recipe(tmp_path, STRONG, {"adapter": adapter}, base=chat_model, rows=rows))
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert max(losses) - min(losses) > 0.02, "the adapter has moved the loss"
    of_model, of_adapter = (figures(run.folder / name, rows, tmp_path / name) for name in ("model", "adapter"))
    assert of_model["loss"] == pytest.approx(of_adapter["loss"], abs=1e-4)
    assert of_model["match"] == of_adapter["match"]
    config = json.loads((run.folder / "model" / "config.json").read_text())
    is_untied = bool({"embed_tokens", "lm_head"} & set(targets))
    assert config["tie_word_embeddings"] is not is_untied
    plain = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    assert (plain.get_output_embeddings().weight is plain.get_input_embeddings().weight) is not is_untied
    assert exit_code("export", str(run.folder), str(tmp_path / "out"), "--dtype", "fp32") == 0
    assert exit_code("export", str(run.folder / "adapter"), str(tmp_path / "again"), "--dtype", "fp32") == 0


@pytest.mark.slow
def test_the_loss_of_the_written_model_is_in_the_results(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(write_recipe(tmp_path, base=base, rows=rows))
    assert run.results["written_model_loss"] == pytest.approx(run.results["trained_model_loss"], abs=1e-4)
    # These rows are few enough to be all that is held out: it is the last measured held-out loss.
    assert run.results["written_model_loss"] == pytest.approx(run.results["heldout_loss"], abs=1e-3)
    assert "loaded again: loss" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"adapter": {"kind": "lora", "rank": 2}}], ids=["full", "lora"])
def test_a_model_that_is_not_what_was_trained_is_an_error_and_costs_nothing(
    change: dict[str, Any],
    tmp_path: Path,
    base: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = write_recipe(tmp_path, STRONG, change, base=base, rows=rows)
    save = model_output.save_model_folder

    def spoiled(model: Any, chat: Any, folder: Path, **options: Any) -> Path:
        if folder.name == "model":
            with torch.no_grad():
                model.lm_head.weight.mul_(0.5)
        return save(model, chat, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(model_output, "save_model_folder", spoiled)
        assert exit_code("train", str(recipe)) == 2
    error = capsys.readouterr().err
    assert "the written model is not what was trained" in error
    folder = tmp_path / "run"
    assert not (folder / "model").exists()
    assert not (folder / "results.json").exists()
    assert (folder / "checkpoints" / "step-000012").is_dir()
    assert (folder / "adapter").exists() == bool(change)
    assert exit_code("train", str(recipe), "--resume") == 0
    assert Run.open(folder).finished


@pytest.mark.slow
def test_rounding_of_16_bit_weights_is_allowed(tmp_path: Path, base: Path, rows: Path) -> None:
    change = {"training": {"max_steps": 4, "precision": "pure_bf16"}, "adapter": {"kind": "lora", "rank": 2}}
    run = train(write_recipe(tmp_path, change, base=base, rows=rows))
    difference = abs(run.results["written_model_loss"] - run.results["trained_model_loss"])
    assert difference <= ROUNDED_BOUND * run.results["trained_model_loss"]


@pytest.mark.slow
def test_without_heldout_rows_training_examples_are_compared(tmp_path: Path, base: Path, rows: Path) -> None:
    run = train(write_recipe(tmp_path, {"data": {"heldout_share": 0.0}}, base=base, rows=rows))
    assert run.results["heldout_loss"] is None
    assert run.results["written_model_loss"] == pytest.approx(run.results["trained_model_loss"], abs=1e-4)


def test_few_examples_are_enough() -> None:
    from instil.conversation import Example
    from instil.preparation.store import ExampleStore

    many = ExampleStore.from_examples([Example([1] * 100, [0.0] + [1.0] * 99)] * 200)
    none = ExampleStore.from_examples([])
    assert len(examples_to_check(none, many)) == 40
    assert len(examples_to_check(many, none)) == 40
    long = ExampleStore.from_examples([Example([1] * 9000, [1.0] * 9000)] * 3)
    assert len(examples_to_check(long, none)) == 1
