from __future__ import annotations

import json
import resource
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.test_new_tokens import base_tokenizer, give_chat_tokens
from tests.model.tiny import VOCABULARY, tiny_model

from instil.encoding.loading import load_tokenizer
from instil.errors import MissingPackageError, ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.attention.switch import set_attention
from instil.model.folder.config import load_config
from instil.model.folder.file_checks import check_tokenizer, check_weights
from instil.model.folder.location import locate
from instil.model.folder.saving import save_adapter, save_model_folder
from instil.model.loading import choose_device, load_model, weight_type
from instil.model.new_tokens import add_rows
from instil.recipe import AdapterSettings, ModelSettings

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


@dataclass(frozen=True)
class Chat:
    tokenizer: Any
    template: Any
    stop_ids: tuple[int, ...]
    pad_id: int | None


def saved(folder: Path, **changes: Any) -> tuple[Any, Chat]:
    model, tokenizer = tiny_model("llama", **changes), base_tokenizer()
    give_chat_tokens(model, tokenizer)
    chat = Chat(tokenizer, SimpleNamespace(as_published=TEMPLATE), (98, 96), tokenizer.pad_token_id)
    save_model_folder(model, chat, folder)
    return model, chat


def load(folder: Path, **settings: Any) -> Any:
    return load_model(ModelSettings(name=str(folder), **settings), precision="fp32")


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_folder_loads_in_plain_transformers(tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, chat = saved(tmp_path / "model", tie_word_embeddings=tied)
    plain = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model"))
    assert plain.generation_config.eos_token_id == [98, 96]
    assert plain.generation_config.pad_token_id not in (98, None)
    assert plain.config._attn_implementation == "sdpa"
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "model"))
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token_id == 98
    assert tokenizer("w5<|im_end|>").input_ids == [5, 98]
    assert chat.tokenizer.chat_template is None, "the tokenizer in memory is left as it was"
    assert {path.suffix for path in (tmp_path / "model").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("room", [100, 20_000])
def test_a_disk_that_is_full_is_an_error_that_names_the_folder(tmp_path: Path, room: int) -> None:
    """A limit on the size of files is what Python meets with its own error and safetensors with another."""
    model, chat = saved(tmp_path / "model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(ModelError, match=f"{tmp_path / 'other'}: the model cannot be written .*too large"):
            save_model_folder(model, chat, tmp_path / "other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chat = saved(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.lm_head.weight.mul_(2)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instil.files.sync_tree", full)
    with pytest.raises(ModelError, match="No space left"):
        save_model_folder(model, chat, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    monkeypatch.undo()
    save_model_folder(model, chat, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_can_be_written_in_another_type(tmp_path: Path) -> None:
    model, chat = saved(tmp_path / "model")
    save_model_folder(model, chat, tmp_path / "half", dtype=torch.bfloat16)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert model.lm_head.weight.dtype == torch.float32
    again = load(tmp_path / "half")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16().float())


def test_loading_for_training_and_generation_choose_attention_and_type(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    training = load(tmp_path / "model")
    assert (training.config._attn_implementation, training.training) == ("instil", True)
    settings = ModelSettings(name=str(tmp_path / "model"))
    generation = load_model(settings, precision="bf16", purpose="generation")
    assert (generation.config._attn_implementation, generation.training) == ("sdpa", False)
    assert generation.dtype == torch.bfloat16
    assert weight_type("bf16", "training") == torch.float32
    assert weight_type("bf16", "training", frozen=True) == torch.bfloat16


def test_random_weights_come_from_the_seed_and_need_no_files(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    settings = ModelSettings(name=str(tmp_path / "model"), initialise="random")
    first, second, other = (load_model(settings, precision="fp32", seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_run_folder_means_its_model(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "model")
    (tmp_path / "run" / "recipe.yaml").write_text("{}")
    found = locate(tmp_path / "run")
    assert (found.kind, found.folder) == ("run", tmp_path / "run" / "model")
    assert len(load_tokenizer(found.tokenizer_folder)) == 99


def test_an_adapter_finds_its_base(tmp_path: Path) -> None:
    saved(tmp_path / "base")
    adapted = prepare_adapters(load(tmp_path / "base"), AdapterSettings(kind="lora", rank=2))
    save_adapter(adapted, tmp_path / "adapter", base=str(tmp_path / "base"))
    found = locate(tmp_path / "adapter")
    assert (found.kind, found.folder, found.adapter_folder) == ("adapter", tmp_path / "base", tmp_path / "adapter")
    assert found.tokenizer_folder == tmp_path / "base"
    opened = load(tmp_path / "adapter")
    trained = {name for name, value in opened.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def broken(tmp_path: Path, fault: str) -> Path:
    folder = tmp_path / "model"
    saved(folder)
    if fault == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    elif fault == "cut short":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[:-100])
    elif fault == "header gone":
        (folder / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"no JSON!")
    elif fault in ("no weights", "pickled"):
        (folder / "model.safetensors").unlink()
        if fault == "pickled":
            (folder / "pytorch_model.bin").write_bytes(b"")
    elif fault == "other size":
        config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 40}
        (folder / "config.json").write_text(json.dumps(config))
    elif fault == "more layers":
        config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
        (folder / "config.json").write_text(json.dumps(config))
    elif fault == "config no JSON":
        (folder / "config.json").write_text("{")
    elif fault == "unknown architecture":
        (folder / "config.json").write_text('{"model_type": "nosuch"}')
    elif fault == "own code":
        (folder / "config.json").write_text('{"model_type": "nosuch", "auto_map": {"AutoConfig": "code.Config"}}')
    return folder


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("cut short", "cut short"),
        ("header gone", "no safetensors file"),
        ("no weights", "without weights.*initialise: random"),
        ("pickled", "pickled and could run code"),
        ("other size", "have another size for"),
        ("more layers", "lack model.layers.2"),
        ("config no JSON", "cannot be read as JSON"),
        ("unknown architecture", "transformers cannot use it"),
        ("own code", "trust_remote_code: true if you trust it"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(fault: str, says: str, tmp_path: Path) -> None:
    folder = broken(tmp_path, fault)
    with pytest.raises(ModelError, match=says) as raised:
        load(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "no tokenizer")
    check_weights(folder)
    with pytest.raises(ModelError, match="without a tokenizer"):
        load_tokenizer(locate(folder).tokenizer_folder)
    with pytest.raises(ModelError, match="without a tokenizer"):
        check_tokenizer(folder)


def test_names_that_mean_nothing_are_refused_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "recipe.yaml").write_text("{}")
    for name, says in {
        "./nothing": "no such model folder",
        "runs/nothing": "no such model folder",
        str(tmp_path / "nothing"): "no such model folder",
        "file": "is a file",
        "runs": "no model here",
        "unfinished": "has not finished.*--resume",
    }.items():
        with pytest.raises(ModelError, match=says):
            locate(name)


def test_an_adapter_without_its_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/no/such/base"}))
    with pytest.raises(ModelError, match="whose base '/no/such/base' cannot be found"):
        locate(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="names no base model"):
        locate(tmp_path)


def test_a_base_is_named_so_that_it_is_found_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, str | None]] = []
    demo = locate("demo").folder

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(demo)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").symlink_to(demo)
    assert locate("demo").base_name == "demo"
    assert locate("owner/name", "v1").base_name == "owner/name"
    assert locate("beside").base_name == str(demo.resolve())
    for base, name in (("demo", "demo"), ("owner/name", "owner/name"), ("beside", str(demo.resolve()))):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "revision": "v2"}))
        assert locate(tmp_path).base_name == name
    assert asked == [("owner/name", "v1"), ("owner/name", "v2")]


def test_a_hub_name_goes_to_the_hub_with_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate("owner/name", "v1")
    (tmp_path / "config.json").write_text("{}")
    assert locate("owner/name", "v1").kind == "hub"
    assert (asked["name"], asked["revision"]) == ("owner/name", "v1")
    assert not any(pattern.endswith((".py", ".bin")) for pattern in asked["patterns"])


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: Any, **keywords: Any) -> str:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match="cannot be downloaded from the Hub") as raised:
        locate("owner/name")
    assert "\n" not in str(raised.value)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        choose_device("nosuch")
    assert choose_device("cpu").type == "cpu"


def test_quantised_loading_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    saved(tmp_path / "model")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'instil\[qlora\]'"):
        load(tmp_path / "model", quantize="4bit")


def test_sampling_settings_of_a_published_model_can_be_saved(tmp_path: Path) -> None:
    model, chat = saved(tmp_path / "model")
    model.generation_config.temperature = 0.6
    model.generation_config.do_sample = False
    save_model_folder(model, chat, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert (written["temperature"], written["do_sample"]) == (0.6, True)


def test_config_of_the_embedded_base_is_known() -> None:
    try:
        location = locate("demo")
    except ModelError:
        pytest.skip("the embedded base model is not built in this checkout: 1 case left out")
    assert load_config(location).model_type == "llama"


def test_an_adapter_is_saved_with_its_tokenizer_and_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft.utils.save_and_load as peft_saving

    def reached(*args: Any, **keywords: Any) -> bool:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(peft_saving, "check_file_exists_on_hf_hub", reached)
    base, tokenizer = tiny_model("llama"), base_tokenizer()
    base.save_pretrained(str(tmp_path / "base"))
    model = load(tmp_path / "base")
    rows = give_chat_tokens(model, tokenizer)
    model = prepare_adapters(model, AdapterSettings(kind="lora", rank=2), trained_ids=rows.trained_ids)
    chat = Chat(tokenizer, SimpleNamespace(as_published=TEMPLATE), (98, 96), tokenizer.pad_token_id)
    save_model_folder(model, chat, tmp_path / "adapter")
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < base.num_parameters(), "the embedding is not in it"
    found = locate(tmp_path / "adapter")
    assert found.tokenizer_folder == tmp_path / "adapter"
    assert load_tokenizer(found.tokenizer_folder).chat_template == TEMPLATE
    assert load(tmp_path / "adapter").get_base_model().config.vocab_size == 104


@pytest.mark.parametrize(("name", "expected"), [("llama", "sdpa"), ("gemma2", "eager"), ("gpt_oss", "eager")])
def test_generation_gets_an_attention_that_knows_caps_and_sinks(name: str, expected: str) -> None:
    model = tiny_model(name)
    set_attention(model, "generation")
    assert model.config._attn_implementation == expected


def test_a_head_beside_a_tied_config_stays_its_own_when_rows_are_added(tmp_path: Path) -> None:
    model = tiny_model("llama", attention="eager", tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    head = weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(ModelSettings(name=str(tmp_path)), precision="fp32")
    add_rows(loaded, VOCABULARY + 8)
    assert torch.equal(loaded.get_output_embeddings().weight[:VOCABULARY], head)
    assert not loaded.config.tie_word_embeddings
