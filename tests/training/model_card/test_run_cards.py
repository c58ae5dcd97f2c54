"""A run's own cards are those of its exports, and what peft leaves beside an adapter is gone."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from tests.tiny_chat import folders

import instil
from instil.training.model_card.run_cards import write_cards
from instil.training.records.run_folder import RunPaths


@pytest.mark.slow
def test_both_folders_of_a_run_get_a_card_and_no_path_stays(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = RunPaths(run(base=tmp_path / "home" / "base"))
    paths.adapter.mkdir()
    left_by_peft = (
        f"---\nbase_model: {tmp_path}/home/base\n---\n\n# Model Card for Model ID\n[More Information Needed]\n"
    )
    (paths.adapter / "README.md").write_text(left_by_peft, encoding="utf-8")
    write_cards(paths, instil.ChatTokenizer.from_pretrained(folders()["run"]))
    texts = {folder.name: (folder / "README.md").read_text("utf-8") for folder in (paths.model, paths.adapter)}
    assert [ModelCard(text).data.library_name for text in texts.values()] == ["transformers", "peft"]
    for text in texts.values():
        assert str(tmp_path) not in text
        assert "More Information Needed" not in text
        assert "# run\n\nTuned from `base` with instil" in text
    assert "These files are an adapter" in texts["adapter"]
    assert not list(tmp_path.rglob(".tmp-*"))
