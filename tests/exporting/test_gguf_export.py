"""Quantised GGUF files by llama.cpp's own quantiser: written, compared at the bound, refused above it."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.exporting.exported import ROWS
from tests.tiny_chat import folders

import instil
from instil.errors import ExportError
from instil.exporting import divergence
from instil.exporting.export import export
from instil.exporting.gguf_types import QUANTISED_TYPES, QuantisedType

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra quantise): it quantises")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model whose rows are whole blocks of 256: the tuned one's tokenizer, random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(folders()["tuned"], folder)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(str(folder))
    shutil.copy(folders()["tuned"] / "generation_config.json", folder)
    return folder


@pytest.mark.slow
def test_a_quantised_file_says_its_type_its_blocks_and_how_far_it_is(tmp_path):
    import gguf

    done = export(folders()["run"], tmp_path / "out", target="gguf", dtype="Q4_K_M", rows=ROWS)
    assert done.files == ("README.md", "model.gguf", "parity.json")
    reader = gguf.GGUFReader(str(done.folder / "model.gguf"))
    assert reader.fields["general.file_type"].parts[-1][0] == 15
    assert {tensor.tensor_type.name for tensor in reader.tensors} - {"F32"} == {"Q5_0", "Q8_0"}  # 192 is not 256
    notes = "\n".join(done.parity.notes)
    assert "have rows that are no multiple of 256: llama.cpp wrote them as q" in notes
    assert "q4_k_m by llama.cpp on" in notes
    assert f"(bound {QUANTISED_TYPES['q4_k_m'].bound:g})" in notes
    assert "ids equal in llama.cpp" in notes
    assert "merged, not yet quantised" in notes
    card = (done.folder / "README.md").read_text("utf-8")
    assert "- q4_k_m by llama.cpp on" in card
    assert ", in q4_k_m." in card
    assert json.loads((done.folder / "parity.json").read_text())["notes"] == list(done.parity.notes)


@pytest.mark.slow
def test_a_model_of_whole_blocks_gets_the_types_of_its_name(wide, tmp_path):
    import gguf

    done = export(wide, tmp_path / "out", target="gguf", dtype="q6_k", rows=ROWS)
    kinds = {t.tensor_type.name for t in gguf.GGUFReader(str(done.folder / "model.gguf")).tensors if len(t.shape) > 1}
    assert kinds <= {"Q6_K", "Q8_0"}
    assert "Q6_K" in kinds
    assert "no multiple of" not in "\n".join(done.parity.notes)


@pytest.mark.slow
def test_a_file_above_the_bound_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    strict = {**QUANTISED_TYPES, "q2_k": QuantisedType("q2_k", 3.0, 1e-6)}
    monkeypatch.setattr(divergence, "QUANTISED_TYPES", strict)
    with pytest.raises(
        ExportError, match=r"q2_k by llama\.cpp on .* Expected a mean of at most 1e-06.*Choose iq3_s, which has more"
    ):
        export(folders()["run"], tmp_path / "new" / "out", target="gguf", dtype="q2_k", rows=ROWS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_file_is_far_above_every_bound(tmp_path, monkeypatch):
    """What the bound is for: weights that are wrong, not merely rounded."""
    from instil.exporting import gguf_export, gguf_file

    monkeypatch.setattr(gguf_file, "interleaved", lambda weight, heads: weight.flip(0))
    monkeypatch.setattr(gguf_export, "read_back", lambda *_: "not read back")
    with pytest.raises(ExportError, match="Expected a mean of at most"):
        export(folders()["run"], tmp_path / "out", target="gguf", dtype="q8_0", rows=ROWS)


@pytest.mark.slow
def test_python_and_ollama_take_the_types_too(tmp_path):
    done = instil.export(folders()["run"], tmp_path / "out", target="ollama", dtype="q8_0")
    assert done.files == ("Modelfile", "README.md", "model.gguf", "parity.json")
    assert (done.folder / "Modelfile").read_text("utf-8").startswith("FROM ./model.gguf\n")
    assert "q8_0 by llama.cpp" in "\n".join(done.parity.lines())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", QUANTISED_TYPES)
def test_every_type_is_written_within_its_bound(dtype, wide, tmp_path):
    for name, model in (("narrow", folders()["run"]), ("wide", wide)):
        done = export(model, tmp_path / name, target="gguf", dtype=dtype, rows=ROWS)
        assert f"{dtype} by llama.cpp" in done.parity.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_file_that_is_not_quantised_is_compared_by_llama_cpp_too(dtype, tmp_path):
    done = export(folders()["run"], tmp_path / "out", target="gguf", dtype=dtype, rows=ROWS)
    assert f"{dtype} by llama.cpp on" in done.parity.notes[-1]
