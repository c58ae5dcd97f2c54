"""Damaged model, adapter and run folders, verb by verb: one line that says what to do, exit status 2, nothing written."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.tiny_chat import tiny_llama, tiny_tokenizer
from torch.nn.functional import pad

from instil.cli.main import main
from instil.model.library_noise import quiet_peft

ROW = {"messages": [{"role": "user", "content": "Capital of Peru?"}, {"role": "assistant", "content": "Lima"}]}
STEP = {"step": 0, "loss": 2.0, "seconds": {"total": 1.0}}

Break = Callable[[Path], object]


def save_adapter(folder: Path, *, layers: int) -> None:
    from peft import LoraConfig, get_peft_model

    with quiet_peft():
        adapted = get_peft_model(
            tiny_llama(layers=layers), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        )
    adapted.peft_config["default"].base_model_name_or_path = "../model"
    adapted.save_pretrained(folder, save_embedding_layers=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an adapter on it, a run, and rows to ask."""
    root = tmp_path_factory.mktemp("whole")
    for folder in (root / "model", root / "run" / "model"):
        tiny_llama(layers=1).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    save_adapter(root / "adapter", layers=1)
    (root / "run" / "recipe.yaml").write_text("model:\n  name: demo\n", encoding="utf-8")
    (root / "run" / "environment.json").write_text("{}", encoding="utf-8")
    (root / "run" / "metrics.jsonl").write_text(json.dumps(STEP) + "\n", encoding="utf-8")
    (root / "rows.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    return root


def text(name: str, content: str | bytes) -> Break:
    """Put other content into a file."""
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def keys(name: str, **values: object) -> Break:
    """Change keys of a JSON file."""
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))


def half(name: str) -> Break:
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
    )


def without(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def entry(**values: object) -> Break:
    """Change the first tensor's entry in the header of the weights."""

    def change(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        first = next(name for name in header if name != "__metadata__")
        header[first] |= values
        written = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(written)) + written + data[8 + length :])

    return change


def of_another_base(folder: Path) -> None:
    """Make an adapter's first matrices wider by eight, as on a larger base."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file({key: pad(value, (0, 8)) if "lora_A" in key else value for key, value in load_file(path).items()}, path)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    """Change the weights of a folder's model."""

    def changed(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


FIRST = "model.layers.0.mlp.down_proj.weight"


def deeper_adapter(folder: Path) -> None:
    """Put an adapter of a base of two layers there."""
    save_adapter(folder, layers=2)


def deeper_base(folder: Path) -> None:
    tiny_llama(layers=2).save_pretrained(folder.parent / "model")


def beyond_the_rows(folder: Path) -> None:
    """Have the template print a token that was added to the tokenizer and to nothing else."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<x{n}>" for n in range(40)])
    tokenizer.chat_template = "<x39>" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)


def index(content: str) -> Break:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(content)

    return change


def smaller(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    config = tiny_llama(layers=1).config
    config.update({"vocab_size": 200, "eos_token_id": 5, "pad_token_id": 4})
    LlamaForCausalLM(config).save_pretrained(folder)


def evaluation(content: str) -> Break:
    def change(folder: Path) -> None:
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "evaluation.json").write_text(content)

    return change


BERT = '{"model_type": "bert", "vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}'
T5 = '{"model_type": "t5", "vocab_size": 259, "d_model": 32, "num_layers": 1, "num_heads": 2}'
TEMPLATE = "chat_template.jinja"
TOKENIZER = "tokenizer_config.json"

BROKEN: tuple[tuple[str, str, Break, str], ...] = (
    ("chat", "model", half("model.safetensors"), "cut short or no safetensors file"),
    ("chat", "model", entry(dtype="Q9"), "no safetensors file"),
    ("chat", "model", entry(shape=[1, 1]), "no safetensors file"),
    ("chat", "model", entry(data_offsets=["a", "b"]), "no safetensors file"),
    ("chat", "model", index('{"weight_map": ["a"]}'), "names no shards"),
    ("chat", "model", index('{"weight_map": {"a": 3}}'), "names no shards"),
    ("chat", "model", index("{}"), "names no shards"),
    ("chat", "model", text("config.json", "[1]"), "config.json: found a JSON list"),
    ("chat", "model", text("config.json", '{"a":' * 5000), "config.json: cannot be read"),
    ("chat", "model", keys("config.json", model_type="nosuch"), "config.json: transformers cannot use it"),
    ("chat", "model", keys("config.json", hidden_size="wide"), "config.json: transformers cannot use it"),
    ("chat", "model", keys("config.json", num_attention_heads=0), "config.json: transformers cannot use it"),
    ("chat", "model", keys("config.json", dtype="wide"), "config.json: transformers cannot use it"),
    (
        "chat",
        "model",
        keys("config.json", pad_token_id=99999),
        "Correct config.json, or copy or download the model again",
    ),
    (
        "plan",
        "model",
        keys("config.json", pad_token_id=99999),
        "Correct config.json, or copy or download the model again",
    ),
    ("chat", "model", text("config.json", BERT), "an encoder, which reads in both directions"),
    ("plan", "model", text("config.json", T5), "an encoder with a decoder"),
    ("chat", "model", text("generation_config.json", "[]"), "generation_config.json: found a JSON list"),
    ("generate", "model", text("generation_config.json", "{"), "generation_config.json: cannot be read"),
    ("generate", "model", smaller, "the model's embedding has 200 rows"),
    ("chat", "model", keys(TOKENIZER, tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.T", None]}), "unasked"),
    ("prove", "model", keys(TOKENIZER, model_max_length="long"), "model_max_length is 'long'"),
    ("show", "model", text(TEMPLATE, b"\xff\xfe\xff"), "chat_template.jinja: cannot be read"),
    ("chat", "adapter", half("adapter_model.safetensors"), "cut short"),
    ("chat", "adapter", keys("adapter_config.json", base_model_name_or_path="."), "an adapter on another adapter"),
    ("chat", "adapter", keys("adapter_config.json", r="x"), "does not fit its base"),
    ("chat", "adapter", keys("adapter_config.json", peft_type="NOSUCH"), "does not fit its base"),
    ("train", "model", half("model.safetensors"), "cut short or no safetensors file"),
    ("train", "model", without("model.safetensors"), "a model folder without weights"),
    ("train", "model", text("generation_config.json", "[]"), "generation_config.json: found a JSON list"),
    ("train", "model", keys("config.json", hidden_act="nosuch"), "transformers cannot load it"),
    ("plan", "model", keys("config.json", hidden_act="nosuch"), "transformers cannot load it"),
    ("plan", "model", keys("config.json", num_key_value_heads=3), "num_key_value_heads is 3"),
    ("generate", "model", keys("config.json", num_hidden_layers=-1), "num_hidden_layers is -1"),
    ("train", "adapter", half("adapter_model.safetensors"), "cut short"),
    ("train", "adapter", without("adapter_model.safetensors"), "an adapter without adapter_model.safetensors"),
    ("train", "adapter", of_another_base, "the adapter does not fit its base"),
    ("plan", "adapter", of_another_base, "the adapter does not fit its base"),
    ("chat", "adapter", of_another_base, "does not fit its base"),
    ("chat", "adapter", deeper_adapter, "layers.1.self_attn.q_proj.lora_A.weight is of no layer of it"),
    ("export", "adapter", deeper_base, "layers.1.self_attn.q_proj.lora_A.default.weight is missing"),
    ("train", "adapter", deeper_base, "lora_A.default.weight is missing"),
    ("train", "adapter", keys("adapter_config.json", r=7), "does not fit its base"),
    ("train", "adapter", keys("adapter_config.json", target_modules=["nosuch"]), "does not fit its base"),
    ("train", "model", weights(lambda w: w.pop(FIRST)), f"the weights lack {FIRST} (1 such"),
    ("train", "model", weights(lambda w: w.update({FIRST: w[FIRST][:5].clone()})), f"another size for {FIRST} (1 such"),
    ("train", "model", keys("config.json", num_hidden_layers=3), "the weights lack model.layers.1"),
    ("train", "model", keys("config.json", max_position_embeddings=0), "max_position_embeddings is 0"),
    (
        "generate",
        "model",
        weights(lambda w: w[FIRST].fill_(float("nan"))),
        f"{FIRST} holds a value that is not a finite",
    ),
    ("export", "model", weights(lambda w: w[FIRST][:1, :1].fill_(float("inf"))), "not a finite number"),
    ("chat", "model", weights(lambda w: [w[n].fill_(float("nan")) for n in (FIRST, "model.norm.weight")]), "(2 such"),
    ("generate", "model", beyond_the_rows, "the model's embedding has 259"),
    ("export", "model", beyond_the_rows, "the model's embedding has 259"),
    ("serve", "model", beyond_the_rows, "the model's embedding has 259"),
    ("prepare", "model", half("config.json"), "config.json: cannot be read"),
    ("prepare", "model", text(TEMPLATE, "{{ raise_exception('no') }}"), "rows.jsonl:1: the template refuses it"),
    ("train", "model", text(TEMPLATE, "{{ raise_exception('no') }}"), "more); see instil template prove"),
    ("chat", "model", text(TEMPLATE, "{{ messages[1:] }}assistant:"), "does not print the user's message"),
    ("serve", "model", text(TEMPLATE, "{{ messages[1:] }}assistant:"), "does not print the user's message"),
    ("convert", "model", half("model.safetensors"), "found columns architectures, attention_bias"),
    ("runs", "model", half("config.json"), "model: no runs here"),
    ("chat", "run", text("recipe.yaml", ""), "run/recipe.yaml: no setting in it"),
    ("evaluate", "run", text("recipe.yaml", "# cut off\n"), "run/recipe.yaml: no setting in it"),
    ("export", "run", text("recipe.yaml", "\n"), "run/recipe.yaml: no setting in it"),
    ("resume", "run", text("recipe.yaml", ""), "run/recipe.yaml: no setting in it"),
    ("export", "run", text("ledger.json", "[]"), "ledger.json: damaged"),
    ("export", "run", text("results.json", "{"), "results.json: damaged"),
    ("export", "run", evaluation('{"model": []}'), "evaluation.json: damaged"),
    ("generate", "model", text(TEMPLATE, "{{ raise_exception('no') }}"), "rows.jsonl:1: the template refuses it"),
    ("evaluate", "model", text(TEMPLATE, "{{ messages[0].a.b }}"), "rows.jsonl:1: the template refuses it"),
    ("chat", "run", without("model/chat_template.jinja"), "run/model: the run's chat template is missing"),
    ("serve", "run", without("model/chat_template.jinja"), "run/model: the run's chat template is missing"),
    ("export", "run", without("model/chat_template.jinja"), "run/model: the run's chat template is missing"),
    ("compare", "run", text("metrics.jsonl", "[]\n"), "metrics.jsonl:1: a JSON list"),
    ("compare", "run", text("metrics.jsonl", '{"loss": 3}\n'), "run: damaged"),
    ("compare", "run", text("metrics.jsonl", json.dumps(STEP | {"loss": "x"}) + "\n"), "a loss is 'x'"),
    ("compare", "run", evaluation('{"model": []}'), "evaluation.json: damaged"),
    ("compare", "run", evaluation('{"model": {"figures": {"a": {"b": 3}}}}'), "evaluation.json: damaged"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "kind", "damage", "says"), BROKEN, ids=[f"{b[0]}-{b[1]}-{b[3][:40]}" for b in BROKEN])
def test_a_damaged_folder_is_one_line_and_status_2(verb, kind, damage, says, whole, tmp_path, monkeypatch, capfd):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / kind)
    monkeypatch.chdir(tmp_path)
    recipe = (
        "data:\n  sources: [rows.jsonl]\n  store: store\n  heldout_max: 0\ntraining:\n  max_steps: 1\ndevice: cpu\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    words = {
        "generate": ["generate", kind, "--prompts", "rows.jsonl", "--out", "out.jsonl", "--max-new-tokens", "2"],
        "train": ["train", "recipe.yaml", "--model.name", kind, "--output", "out"],
        "resume": ["train", "recipe.yaml", "--output", kind, "--resume"],
        "evaluate": ["evaluate", kind, "--data", "rows.jsonl", "--out", "report", "--max-new-tokens", "2"],
        "serve": ["serve", kind, "--port", "0"],
        "export": ["export", kind, "out"],
        "plan": ["plan", "recipe.yaml", "--model.name", kind, "--output", "out"],
        "compare": ["runs", "compare", kind, kind],
        "prove": ["template", "prove", kind],
        "show": ["template", "show", kind],
        "prepare": ["prepare", "recipe.yaml", "--model.name", kind],
        "convert": ["convert", f"{kind}/config.json", "out.jsonl"],
    }.get(verb, [verb, kind])
    before = set(tmp_path.rglob("*"))
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    error = capfd.readouterr().err.strip()
    assert stopped.value.code == 2
    assert error.startswith("error: ")
    assert says in error
    assert "\n" not in error
    assert len(error) < 900
    assert {path for path in tmp_path.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize("template", [5, [5], {"name": "x"}])
def test_a_chat_template_that_is_no_source_is_refused(template, whole, tmp_path, capsys):
    shutil.copytree(whole / "model", tmp_path / "model")
    (tmp_path / "model" / TEMPLATE).unlink()
    keys(TOKENIZER, chat_template=template)(tmp_path / "model")
    with pytest.raises(SystemExit) as stopped:
        main(["template", "show", str(tmp_path / "model")])
    assert stopped.value.code == 2
    assert "Expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/proc/instil", "cannot be made"),
        ("rows.jsonl/run", "not a folder, and none can be made there (Not a directory)"),
        ("rows.jsonl", "not a folder, and none can be made there (Not a directory)"),
    ],
)
def test_a_run_folder_that_cannot_be_made_is_one_line(place, words, whole, tmp_path, monkeypatch, capfd):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("data:\n  sources: [rows.jsonl]\ntraining:\n  max_steps: 1\n")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "recipe.yaml", "--model.name", "model", "--output", place])
    error = capfd.readouterr().err.strip()
    assert stopped.value.code == 2
    assert error.startswith(f"error: {place}: {words}")
    assert "\n" not in error


@pytest.mark.slow
def test_a_plot_over_a_folder_leaves_nothing(whole, tmp_path, monkeypatch, capfd):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["runs", "compare", "run", "run", "--plot", "model"])
    assert stopped.value.code == 2
    assert "choose another --plot" in capfd.readouterr().err
    assert set(tmp_path.rglob("*")) == before
