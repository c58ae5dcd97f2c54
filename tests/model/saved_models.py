"""Folders of tiny models: complete ones, and broken ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.tiny import tiny_model

from instil.errors import ModelError
from instil.model.folder.saving import save_model_folder
from instil.model.loading import load_model
from instil.recipe import ModelSettings

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


def broken(tmp_path: Path, fault: str) -> Path:
    """Return the folder of a model with this fault."""
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


def assert_refused_in_one_line(folder: Path, says: str) -> None:
    """Load a broken folder and compare the error, which names the folder, with a pattern."""
    with pytest.raises(ModelError, match=says) as raised:
        load(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
