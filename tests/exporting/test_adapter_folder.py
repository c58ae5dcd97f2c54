from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from tests.exporting.exported import ROWS, answers
from tests.tiny_chat import folders

from instil.errors import ExportError
from instil.exporting.export import export
from instil.generation.engine import Engine


@pytest.mark.slow
@pytest.mark.long
def test_a_trained_run_ships_its_adapter_and_its_merged_model(lora_run, tmp_path):
    merged = export(lora_run, tmp_path / "merged", dtype="fp32", rows=ROWS)
    assert 0 < merged.parity.logit_change <= 1e-4
    assert answers(merged.folder) == answers(lora_run)
    for name in (lora_run, lora_run / "adapter"):
        alone = export(name, tmp_path / f"alone-{name.name}", target="adapter", rows=ROWS)
        assert answers(alone.folder) == answers(lora_run)
        config = json.loads((alone.folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == str(folders()["base"])
        texts = {path.name: path.read_text(encoding="utf-8") for path in alone.folder.glob("*.[jm][sid]*")}
        here = (str(lora_run.parent), str(folders()["base"].parent))
        assert {"README.md", "parity.json", "tokenizer_config.json", "chat_template.jinja"} < texts.keys()
        assert [name for name, text in texts.items() if any(at in text for at in here)] == ["adapter_config.json"]


@pytest.mark.slow
def test_a_merged_model_that_is_not_base_and_adapter_is_refused(lora_run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(lora_run, copied)
    model = Engine.load(lora_run).model
    with torch.no_grad():
        model.get_input_embeddings().weight[72] += 0.5
    model.save_pretrained(copied / "model")
    with pytest.raises(ExportError, match="merging the adapter changed a logit") as caught:
        export(copied, tmp_path / "out", dtype="fp32", rows=ROWS)
    assert not (tmp_path / "out").exists()
    # The remedy that the error names works.
    assert f"instil export {copied / 'adapter'} OUT --dtype fp32" in str(caught.value)
    done = export(copied / "adapter", tmp_path / "out", dtype="fp32", rows=ROWS)
    assert answers(done.folder) == answers(lora_run)


@pytest.mark.slow
def test_an_adapter_is_merged_within_the_bound(adapter, tmp_path):
    done = export(adapter, tmp_path / "out", dtype="fp32", rows=ROWS)
    assert 0 < done.parity.logit_change <= 1e-4
    assert answers(done.folder) == answers(adapter)
    assert answers(done.folder) != answers(folders()["tuned"])


@pytest.mark.slow
def test_an_adapter_alone_loads_on_its_base(adapter, tmp_path):
    done = export(adapter, tmp_path / "out", target="adapter", rows=ROWS)
    assert "adapter_model.safetensors" in done.files
    assert "config.json" not in done.files
    assert answers(done.folder) == answers(adapter)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import AutoPeftModelForCausalLM

        assert AutoPeftModelForCausalLM.from_pretrained(str(done.folder)) is not None
    with pytest.raises(ExportError, match="has no adapter"):
        export(folders()["run"], tmp_path / "none", target="adapter", rows=ROWS)
