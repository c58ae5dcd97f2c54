"""Tiny models as they were published in the days of transformers 4, and the rows to tune them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny_chat import CHATML, tiny_llama, tiny_tokenizer

PAIRS = (("Add 2 and 3", "5"), ("Add 4 and 4", "8"), ("Capital of Chile?", "Santiago"), ("Say bye", "Bye"))


def write_rows(path: Path) -> Path:
    """Write four conversations."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]})
        for ask, answer in PAIRS
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_published(folder: Path, *, config: dict[str, Any], generation: dict[str, Any] | None) -> Path:
    """Write a tiny Llama with the names that transformers 4 used.

    Args:
        folder: Destination.
        config: What replaces the config's rotary settings and eos.
        generation: The generation_config; None for a folder without one.
    """
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
    old = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(old | names), encoding="utf-8")
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in ("rope_parameters", "dtype"):
        values.pop(name, None)
    values |= {"torch_dtype": "float32", "transformers_version": "4.44.0"} | config
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if generation is not None:
        path.write_text(json.dumps(generation), encoding="utf-8")
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
