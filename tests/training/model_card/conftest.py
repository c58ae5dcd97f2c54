from __future__ import annotations

import json

import pytest
import yaml
from tests.exporting.exported import EVALUATION, LEDGER


@pytest.fixture
def run(tmp_path):
    """A run folder with everything that a card speaks of; its base is the Hub's, or a folder."""

    def make(*, base="Qwen/Qwen2.5-0.5B", sources=("rows.jsonl", "openai/gsm8k")):
        folder = tmp_path / "run"
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "config.json").write_text("{}", encoding="utf-8")
        (folder / "evaluation").mkdir()
        recipe = {"model": {"name": str(base)}, "data": {"sources": [*sources]}, "optimizer": {"lr": 1e-4}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        for name, value in {
            "ledger.json": LEDGER,
            "results.json": {"steps": 3, "heldout_loss": 1.25},
            "evaluation/evaluation.json": EVALUATION,
        }.items():
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        return folder

    return make
