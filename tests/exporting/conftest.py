from __future__ import annotations

import json

import pytest
import torch
from tests.tiny_chat import FACTS, folders

from instil.generation.engine import Engine


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter folder with random weights on the tuned model."""
    from instil.model.adapters.lora import prepare_adapters
    from instil.recipe import AdapterSettings

    engine = Engine.load(folders()["tuned"])
    torch.manual_seed(3)
    model = prepare_adapters(engine.model, AdapterSettings(kind="lora", rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("adapter") / "run" / "model"
    model.save_pretrained(str(folder))
    engine.tokenizer.save_pretrained(str(folder))
    (folder.parent / "recipe.yaml").write_text(f"model:\n  name: {folders()['tuned']}\n", encoding="utf-8")
    return folder.parent


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory):
    """A run as `instil train` leaves it: an adapter with new chat tokens on a base without a template, and the merged model."""
    import instil

    place = tmp_path_factory.mktemp("lora")
    lines = [json.dumps({"question": q, "answer": a}) for q, a in FACTS]
    (place / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "model": {"name": str(folders()["base"])},
        "data": {"sources": [str(place / "rows.jsonl")], "heldout_max": 0},
        "adapter": {"kind": "lora"},
        "training": {"max_steps": 2, "precision": "fp32"},
        "optimizer": {"lr": 0.01},
        "evaluate": {"samples": []},
        "output": str(place / "run"),
        "device": "cpu",
    }
    instil.train(instil.Recipe.from_mapping(recipe))
    return place / "run"
