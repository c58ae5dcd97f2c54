from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.training.command_line import (
    train,
    weights_of,
    write_recipe,
)

from instil.training.records.run_folder import Run
from instil.units import short_count


def test_the_model_loads_in_plain_transformers_with_template_and_stop_token(reference: Run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(reference.model_folder)
    tokenizer = AutoTokenizer.from_pretrained(reference.model_folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends = model.generation_config.eos_token_id
    assert stop in (ends if isinstance(ends, list) else [ends])
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id not in (None, stop)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.slow
def test_the_last_line_on_heldout_rows_is_what_results_say(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    short = {"training": {"max_steps": 2}, "evaluate": {"every": 2, "max_new_tokens": 1}}
    run = train(write_recipe(tmp_path, short, base=base, rows=rows))
    first = next(line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line)
    last = run.results["heldout_loss"]
    assert f"held-out   loss {first:.4f} when first measured, {last:.4f} at the end" in capsys.readouterr().out


LORA = {"adapter": {"kind": "lora", "rank": 4, "dropout": 0.2}}


@pytest.mark.slow
def test_lora_writes_adapter_and_merged_model(
    tmp_path: Path, base: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    run = train(write_recipe(tmp_path, LORA, {"training": {"max_steps": 6}}, base=base, rows=rows))
    assert (run.folder / "adapter" / "adapter_model.safetensors").exists()
    own = sum(weight.numel() for weight in weights_of(run).values())  # an adapter has none left once it is merged
    assert f"model      {base} ({short_count(own)} parameters)" in capsys.readouterr().out
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    merged = weights_of(run)
    assert not [name for name in merged if "lora" in name]
    from safetensors.torch import load_file

    before = load_file(base / "model.safetensors")
    moved = [name for name, weight in before.items() if "proj" in name and not torch.equal(weight, merged[name])]
    assert len(moved) == 14
    assert torch.equal(before["model.norm.weight"], merged["model.norm.weight"])


def test_results_tell_examples_of_the_set_and_examples_seen_apart(reference: Run):
    steps = [line for line in reference.metrics() if "loss" in line]
    assert reference.results["examples_seen"] == sum(line["examples"] for line in steps)
    assert reference.results["examples"] < reference.results["examples_seen"]
