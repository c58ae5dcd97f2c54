"""Checks that the files of a model folder are there and complete, without reading a weight.

Flow: `location` finds the folder, this module checks its files, and then `loading` reads them. Pickled weights are
refused, because reading them can run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from instil.errors import ModelError
from instil.units import byte_size

WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        ModelError: If the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: missing. Expected a complete model folder. Copy or download the model again."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}). Copy or download the model again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: found a JSON {type(value).__name__}. Expected an object. Copy the model again.")
    return value


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds the files of a tokenizer."""
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def check_tokenizer(folder: Path) -> None:
    """Raise `ModelError` if a model folder has no tokenizer."""
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder}: a model folder without a tokenizer. Expected tokenizer.json or a tokenizer model beside "
            "config.json. Copy the tokenizer's files there."
        )


def check_weights(folder: Path) -> None:
    """Check that a model folder's safetensors files are there and complete; only their headers are read.

    Raises:
        ModelError: If there are none, one is missing or truncated, or the weights are pickled.
    """
    files = weight_files(folder)
    if not files:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{folder}: weights only in {pickled[0]}, which is pickled and could run code. Expected {WEIGHTS}. "
                "Convert it where you trust it (transformers' save_pretrained writes safetensors)."
            )
        raise ModelError(
            f"{folder}: a model folder without weights. Expected {WEIGHTS}. "
            "Copy them there, or set model.initialise: random."
        )
    for path in files:
        read_header(path)


def check_adapter(folder: Path) -> None:
    """Check that an adapter's files are there and complete; of its weights only the header is read.

    Raises:
        ModelError: If one is missing or damaged.
    """
    read_json(folder / ADAPTER_CONFIG)
    if not (folder / ADAPTER_WEIGHTS).exists():
        pickled = ", pickled weights are not read" if (folder / "adapter_model.bin").exists() else ""
        raise ModelError(
            f"{folder}: an adapter without {ADAPTER_WEIGHTS}{pickled}. Expected it beside {ADAPTER_CONFIG}. "
            "Copy or download it again."
        )
    read_header(folder / ADAPTER_WEIGHTS)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load from a folder; files named by an index may not exist.

    Raises:
        ModelError: If there is an index that names no files.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not index.exists():
        return []
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(
            f"{index}: names no shards. Expected weight_map, an object from tensor to file. Copy or download the model "
            "again."
        )
    return [folder / name for name in sorted(set(shards.values()))]


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: type, shape and offsets of each tensor, by name.

    Raises:
        ModelError: As `read_layout`.
    """
    return read_layout(path)[0]


def read_layout(path: Path) -> tuple[dict[str, Any], int]:
    """Read the header of a safetensors file, and the place in the file that its offsets count from.

    Raises:
        ModelError: If the file is missing or damaged, or its length differs from what the header implies.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise ModelError(f"{path}: a file of the weights is missing. Copy or download the model again.")
    try:
        with safe_open(path, framework="np"):  # checks the header and the file's length
            pass
    except MemoryError:
        raise ModelError(
            f"{path}: no memory for the model: its {byte_size(path.stat().st_size)} cannot even be mapped under this "
            "process's limit. Raise the limit (ulimit -v), or load a smaller model."
        ) from None
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: cut short or no safetensors file ({path.stat().st_size} bytes; {error}). Copy or download the "
            "model again."
        ) from None
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        begin = file.tell()
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, begin
