from __future__ import annotations

import shutil

import pytest
import torch
from tests.exporting.exported import ROWS
from tests.tiny_chat import folders

from instil.exporting.export import export
from instil.generation.engine import Engine


@pytest.mark.slow
def test_a_gguf_reads_back_to_the_same_logits(tmp_path):
    pytest.importorskip("gguf")
    from gguf import GGUFReader

    done = export(folders()["run"], tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)
    assert any("read back" in line for line in done.parity.lines())
    reader = GGUFReader(str(done.folder / "model.gguf"))
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert fields["general.architecture"] == "llama"
    assert fields["tokenizer.ggml.eos_token_id"] == 258
    assert fields["tokenizer.ggml.tokens"][258] == "<|im_end|>"
    assert fields["tokenizer.chat_template"].startswith("{% for message")
    assert {"token_embd.weight", "blk.1.attn_q.weight", "output_norm.weight"} <= {t.name for t in reader.tensors}


@pytest.mark.slow
def test_a_qwen3_with_heads_of_its_own_width_reads_back(tmp_path):
    pytest.importorskip("gguf")
    from gguf import GGUFReader
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=259, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=512, eos_token_id=258, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(folders()["tuned"]).save_pretrained(tmp_path / "model")
    done = export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)
    assert any("read back" in line for line in done.parity.lines())
    fields = GGUFReader(str(done.folder / "model.gguf")).fields
    assert fields["qwen3.attention.key_length"].contents() == 16
    assert len(fields["tokenizer.ggml.merges"].contents()) == 1  # llama.cpp refuses a file without any


@pytest.mark.slow
def test_a_llama_31_with_stretched_rotary_frequencies_reads_back(tmp_path):
    pytest.importorskip("gguf")
    from gguf import GGUFReader

    model = Engine.load(folders()["tuned"]).model
    model.config.rope_parameters = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    done = export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)
    assert any("read back" in line for line in done.parity.lines())
    (factors,) = [t.data for t in GGUFReader(str(done.folder / "model.gguf")).tensors if t.name == "rope_freqs.weight"]
    assert factors.min() == 1
    assert factors.max() == 8
