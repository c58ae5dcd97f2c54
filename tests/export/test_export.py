from __future__ import annotations

import json
import shutil
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.errors import ExportError
from instil.export.export import export
from instil.export.parity import check_ids, check_merge, check_stops
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings

ROWS = [Conversation((Message("user", q), Message("assistant", a))) for q, a in FACTS]


def answers(folder, precision="fp32"):
    engine = Engine.load(folder, LoadSettings(precision=precision))
    asked = [Conversation((Message("user", question),)) for question, _ in FACTS]
    return [answer.text for answer in engine.answer(asked)]


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


@pytest.mark.slow
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


def test_a_merged_model_that_is_not_base_and_adapter_is_refused(lora_run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(lora_run, copied)
    model = Engine.load(lora_run).model
    with torch.no_grad():
        model.get_input_embeddings().weight[72] += 0.5
    model.save_pretrained(copied / "model")
    with pytest.raises(ExportError, match="merging the adapter changed a logit"):
        export(copied, tmp_path / "out", dtype="fp32", rows=ROWS)
    assert not (tmp_path / "out").exists()


def test_a_config_with_more_eos_ids_than_training_stops_on_is_written_to_agree(tmp_path):
    """As Llama 3.1 is published: three eos ids, of which its template prints one."""
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [256, 257, 258]}), encoding="utf-8")
    done = export(tmp_path / "model", tmp_path / "out", dtype="fp32", rows=ROWS)
    assert json.loads((done.folder / "config.json").read_text(encoding="utf-8"))["eos_token_id"] == 258


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_merged_model_is_a_plain_folder_that_answers_the_same(tmp_path, dtype):
    done = export(folders()["run"], tmp_path / "out", dtype=dtype, rows=ROWS)
    assert set(done.files) >= {"model.safetensors", "config.json", "tokenizer.json", "README.md", "parity.json"}
    assert done.parity.prompts == len(ROWS)
    assert done.parity.answers_differ == 0
    assert done.parity.stop_tokens == ("<|im_end|>",)
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


def test_an_adapter_is_merged_within_the_bound(adapter, tmp_path):
    done = export(adapter, tmp_path / "out", dtype="fp32", rows=ROWS)
    assert 0 < done.parity.logit_change <= 1e-4
    assert answers(done.folder) == answers(adapter)
    assert answers(done.folder) != answers(folders()["tuned"])


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


@pytest.mark.slow
def test_a_4bit_export_loads_and_keeps_its_ids(tmp_path):
    pytest.importorskip("bitsandbytes")
    done = export(folders()["run"], tmp_path / "out", target="4bit", rows=ROWS)
    config = json.loads((done.folder / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["load_in_4bit"]
    assert "nf4" in done.parity.lines()[-1]


def test_a_gguf_reads_back_to_the_same_logits(tmp_path):
    pytest.importorskip("gguf")
    from gguf import GGUFReader

    done = export(folders()["run"], tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)
    assert "read back" in done.parity.lines()[-1]
    reader = GGUFReader(str(done.folder / "model.gguf"))
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert fields["general.architecture"] == "llama"
    assert fields["tokenizer.ggml.eos_token_id"] == 258
    assert fields["tokenizer.ggml.tokens"][258] == "<|im_end|>"
    assert fields["tokenizer.chat_template"].startswith("{% for message")
    assert {"token_embd.weight", "blk.1.attn_q.weight", "output_norm.weight"} <= {t.name for t in reader.tensors}


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
    assert "read back" in done.parity.lines()[-1]
    fields = GGUFReader(str(done.folder / "model.gguf")).fields
    assert fields["qwen3.attention.key_length"].contents() == 16
    assert len(fields["tokenizer.ggml.merges"].contents()) == 1  # llama.cpp refuses a file without any


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
    assert "read back" in done.parity.lines()[-1]
    (factors,) = [t.data for t in GGUFReader(str(done.folder / "model.gguf")).tensors if t.name == "rope_freqs.weight"]
    assert factors.min() == 1
    assert factors.max() == 8


def test_a_row_that_llama_cpp_cuts_otherwise_refuses_the_gguf(tmp_path):
    pytest.importorskip("gguf")
    from tokenizers import normalizers

    engine = Engine.load(folders()["tuned"])
    engine.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    engine.tokenizer.save_pretrained(tmp_path / "model")
    rows = [Conversation((Message("user", "cafe\u0301"), Message("assistant", "yes")))]
    with pytest.raises(ExportError, match=r"llama\.cpp's rules differs from training"):
        export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=[*ROWS, *rows])
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)


def test_a_modelfile_says_the_template_and_the_stop_token(tmp_path):
    pytest.importorskip("gguf")
    done = export(folders()["run"], tmp_path / "out", target="ollama", rows=ROWS)
    text = (done.folder / "Modelfile").read_text(encoding="utf-8")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' in text
    assert text.startswith("FROM ./model.gguf\n")
    assert any("expanded" in line for line in done.parity.lines())


def test_typed_control_tokens_are_counted_apart(tmp_path):
    typed = Conversation((Message("user", "what is <|im_end|>?"), Message("assistant", "a token")))
    done = export(folders()["run"], tmp_path / "out", rows=[*ROWS, typed])
    assert (done.parity.prompts, done.parity.typed_control_tokens) == (len(ROWS), 1)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(folders()["tuned"], tmp_path / "copy")


def test_another_template_in_the_export_is_refused_with_the_first_difference(copy):
    chat = Engine.load(folders()["tuned"]).chat
    template = copy / "chat_template.jinja"
    template.write_text(
        template.read_text(encoding="utf-8").replace("<|im_start|>' +", "<|im_start|> ' +"), encoding="utf-8"
    )
    with pytest.raises(ExportError, match="differs from training at token 1"):
        check_ids(chat, copy, ROWS)


def test_another_stop_token_in_the_export_is_refused(copy):
    chat = Engine.load(folders()["tuned"]).chat
    assert check_stops(chat, copy) == ("<|im_end|>",)
    file = copy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"eos_token_id": 256}), encoding="utf-8")
    with pytest.raises(ExportError, match=r"generation_config stops on \[256\]"):
        check_stops(chat, copy)


def test_a_merge_that_changes_logits_is_refused():
    before = [torch.tensor([[1.0, 2.0]])]
    assert check_merge(before, [before[0] + 1e-6], torch.float32) < 1e-4
    with pytest.raises(ExportError, match="merging the adapter changed a logit"):
        check_merge(before, [before[0] + 1], torch.float32)
    with pytest.raises(ExportError, match="merging"):
        check_merge(before, [before[0] * float("nan")], torch.float32)


class Hub(BaseHTTPRequestHandler):
    """Stands in for the Hub: takes a repository and a commit."""

    def _answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        self._answer({"id": "me/model", "siblings": [], "sha": "0" * 40})

    def do_POST(self):
        body = self._body()
        self.server.seen.append((self.path, body))
        if self.path == "/api/repos/create":
            self._answer({"url": f"http://{self.headers['Host']}/me/model", "name": "me/model", "id": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            self._answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/me/model/commit/1",
                    "commitOid": "1" * 40,
                    "success": True,
                }
            )
        else:
            self._answer({"error": "no"}, 404)

    def log_message(self, *_):
        pass


def test_a_folder_is_pushed_to_a_stand_in_of_the_hub(tmp_path, monkeypatch):
    from instil.export.push import push

    monkeypatch.setenv("HF_TOKEN", "test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the stand-in is on this machine
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nhello", encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        address = push(tmp_path, "me/model", endpoint=endpoint)
        assert "/commit/" in address
        (commit,) = [body for path, body in server.seen if "/commit/" in path]
        assert {json.loads(line)["value"].get("path") for line in commit.splitlines()} >= {"README.md", "config.json"}
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ExportError, match="did not accept the upload"):
        push(tmp_path, "me/model", endpoint=endpoint)
