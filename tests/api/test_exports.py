"""Exporting from Python: the folder of the command, checked on rows from memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny_chat import FACTS, folders

import instil


@pytest.mark.slow
def test_a_run_is_exported_and_answers_the_same(tmp_path: Path) -> None:
    rows = [{"question": question, "answer": answer} for question, answer in FACTS]
    done = instil.export(folders()["run"], tmp_path / "out", dtype="fp32", data=rows, device="cpu")
    assert done.parity.prompts == len(FACTS)
    assert str(instil.load_model(done.folder, device="cpu").chat("Say hi")) == "Hi there!"
    with pytest.raises(instil.ExportError, match="already exists"):
        instil.export(folders()["run"], tmp_path / "out")
