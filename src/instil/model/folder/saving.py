"""Writes a model as a plain Hugging Face folder, completely or not at all.

The folder holds safetensors, the tokenizer with its chat template, and a generation_config with the stop ids, so that
plain transformers stops where instil does. It is written under a temporary name, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from instil.errors import ModelError
from instil.files import atomic_folder
from instil.model.folder.both_generations import make_config_readable, make_tokenizer_readable
from instil.model.folder.generation_config import set_stop_ids
from instil.model.library_noise import quiet_peft, quiet_transformers
from instil.model.underlying import underlying
from instil.refused_writes import refused_writes
from instil.screen import work

READERS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""Files beside the tokenizer of a model that also reads images: they say how images and videos are prepared."""


class ChatTokens(Protocol):
    """The part of `encoding.ChatTokenizer` that saving needs."""

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""

    @property
    def template(self) -> Any:
        """The chat template; its `as_published` source is saved."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer; the first one becomes the config's eos."""

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token."""


def save_model_folder(
    model: Any,
    chat: ChatTokens,
    folder: str | Path,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
    base: str | None = None,
) -> Path:
    """Write a model folder that plain transformers can load.

    Args:
        model: transformers' model, or a peft model, of which only the adapter is written.
        chat: Its tokenizer, template and stop ids.
        folder: Destination; an existing folder is replaced once the new one is complete.
        state: Weights to write instead of the module's own (gathered from shards).
        dtype: Type to write floating-point weights in; None keeps their own.
        base: Name of an adapter's base (see `save_adapter`).

    Returns:
        The folder.

    Raises:
        ModelError: If the disk refuses a write; an existing folder stays as it was.
    """
    folder = Path(folder)
    with opened_model_folder(folder) as aside:
        write_model_files(model, chat, aside, state=state, dtype=dtype, base=base)
    return folder


@contextlib.contextmanager
def opened_model_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write a model into; it replaces `folder` when the context ends.

    Raises:
        ModelError: If the disk refuses a write; an existing folder stays as it was.
    """
    reported = refused_writes(
        folder, raises=ModelError, found="the model cannot be written", otherwise="choose another folder"
    )
    with reported, atomic_folder(folder, replace=True) as aside:
        yield aside


@work("writing the model")
def write_model_files(
    model: Any,
    chat: ChatTokens,
    folder: Path,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
    base: str | None = None,
) -> None:
    """Write a model folder's files into a folder that exists; the arguments are those of `save_model_folder`.

    Raises:
        Exception: Of several classes, if the disk refuses; see `refused_writes`.
    """
    set_stop_ids(model, chat.stop_ids, pad_id=chat.pad_id)
    if hasattr(model, "peft_config"):
        save_adapter(model, folder, base=base, state=state)
        underlying(model).generation_config.save_pretrained(str(folder))  # the stop ids, without the base
    else:
        write_weights(model, folder, state=state, dtype=dtype)
        _copy_readers(model.config._name_or_path, folder)
    save_tokenizer(chat, folder)


def write_weights(
    model: Any,
    folder: Path,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's weights, config and generation config; the arguments are those of `save_model_folder`."""
    if dtype is not None:
        state = {name: _cast(value, dtype) for name, value in (state or model.state_dict()).items()}
    with quiet_transformers():
        model.save_pretrained(str(folder), **({} if state is None else {"state_dict": dict(state)}))
    if dtype is not None:
        _write_dtype(folder / "config.json", dtype)
    make_config_readable(folder)


def _copy_readers(source: str, folder: Path) -> None:
    """Copy the image settings of a model that reads images; tuning on text does not change them.

    `source` is empty for a model that was not loaded from a folder.
    """
    for name in READERS if source else ():
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, folder / name)


def save_adapter(
    model: Any, folder: Path, *, base: str | None = None, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write an adapter, without its base, into a folder that plain peft can open.

    Args:
        model: The peft model.
        folder: Destination; created if missing.
        base: Name of the base in adapter_config.json (see `ModelLocation.base_name`); None for the folder it was loaded
            from.
        state: The adapter's weights by their names in the model, where they lie in shards.
    """
    for config in model.peft_config.values():
        config.base_model_name_or_path = base or config.base_model_name_or_path
    with quiet_peft():
        given = {} if state is None else {"state_dict": dict(state)}
        model.save_pretrained(str(folder), save_embedding_layers=False, **given)


def save_tokenizer(chat: ChatTokens, folder: Path) -> None:
    """Write the tokenizer with its chat template into a folder."""
    tokenizer = chat.tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = chat.template.as_published
    try:
        tokenizer.save_pretrained(str(folder))
    finally:
        tokenizer.chat_template = before
    make_tokenizer_readable(folder, tokenizer.init_kwargs)


def _cast(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _write_dtype(path: Path, dtype: torch.dtype) -> None:
    import json

    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
