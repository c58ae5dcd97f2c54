from __future__ import annotations

import json
import shutil

import pytest
from tests.exporting.exported import ROWS, answers
from tests.tiny_chat import FACTS, folders
from tests.views.parsed import assert_harmless, text_of

from instil.exporting.export import export


@pytest.mark.slow
def test_a_config_with_more_eos_ids_than_training_stops_on_is_written_to_agree(tmp_path):
    """As Llama 3.1 is published: three eos ids, of which its template prints one."""
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [256, 257, 258]}), encoding="utf-8")
    done = export(tmp_path / "model", tmp_path / "out", dtype="fp32", rows=ROWS)
    assert json.loads((done.folder / "config.json").read_text(encoding="utf-8"))["eos_token_id"] == 258


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_merged_model_is_a_plain_folder_that_answers_the_same(tmp_path, dtype):
    done = export(folders()["run"], tmp_path / "out", dtype=dtype, rows=ROWS)
    assert set(done.files) >= {"model.safetensors", "config.json", "tokenizer.json", "README.md", "parity.json"}
    assert done.parity.prompts == len(ROWS)
    assert done.parity.answers_differ == 0
    assert done.parity.stop_tokens == ("<|im_end|>",)
    shown = done._repr_html_()
    assert_harmless(shown)
    for words in (str(done.folder), "model.safetensors", "kB", "ids equal in training", "greedy answers equal"):
        assert words in text_of(shown), words
    assert repr(done).startswith("Exported(")
    assert "\n" not in repr(done)
    if dtype == "fp32":
        assert answers(done.folder) == [answer for _, answer in FACTS]

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    assert str(model.dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[dtype]
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(written) == "Hi there!<|im_end|>"


@pytest.mark.slow
def test_a_4bit_export_loads_and_keeps_its_ids(tmp_path):
    pytest.importorskip("bitsandbytes")
    done = export(folders()["run"], tmp_path / "out", target="4bit", rows=ROWS)
    config = json.loads((done.folder / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["load_in_4bit"]
    assert "nf4" in done.parity.lines()[-1]


@pytest.mark.slow
def test_a_modelfile_says_the_template_and_the_stop_token(tmp_path):
    pytest.importorskip("gguf")
    done = export(folders()["run"], tmp_path / "out", target="ollama", rows=ROWS)
    text = (done.folder / "Modelfile").read_text(encoding="utf-8")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert text.endswith("PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n")
    assert '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' in text
    assert text.startswith("FROM ./model.gguf\n")
    assert any("expanded" in line for line in done.parity.lines())
