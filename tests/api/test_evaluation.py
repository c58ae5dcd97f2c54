"""Measuring from Python: the figures of the command, for a name, a loaded model and rows from memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_chat import FACTS, folders

import instil

ROWS: list[Any] = [{"question": question, "answer": answer} for question, answer in FACTS]


@pytest.mark.slow
def test_a_folder_a_loaded_model_and_rows_give_the_same_figures(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    result = instil.evaluate(folders()["tuned"], file, tasks="exact_match", max_new_tokens=60, device="cpu")
    assert result.figures["exact_match"].value == 1
    assert set(result.figures) == {"exact_match", "behaviour"}
    model = instil.load_model(folders()["tuned"], device="cpu")
    out = tmp_path / "report"
    compared = instil.evaluate(
        model, ROWS, tasks=["exact_match"], against=folders()["base"], max_new_tokens=60, out=out, limit=4
    )
    assert compared.figures["exact_match"].value == 1
    assert (compared.data, len(compared.prompts)) == ("rows", 4)
    assert compared.against is not None
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.md", "evaluation.html"}


@pytest.mark.slow
def test_a_loaded_model_takes_no_settings_for_loading() -> None:
    model = instil.load_model(folders()["tuned"], device="cpu")
    with pytest.raises(instil.EvaluationError, match="device: the model is loaded already"):
        instil.evaluate(model, ROWS, device="cpu")
    with pytest.raises(instil.GenerationError, match=r"temprature: no such setting.*temperature"):
        instil.evaluate(model, ROWS, temprature=1)
