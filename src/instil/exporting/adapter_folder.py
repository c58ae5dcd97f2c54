"""Exports of adapters: the adapter alone, and the check that a run's merged model is its base with its adapter.

A run that trained an adapter has both ``model/``, which is merged, and ``adapter/``. A full export copies ``model/``,
which `chat` and `evaluate` used. This module measures that it equals base plus adapter, with the base in 16 or 32
bits, even if the run trained on a 4-bit base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from instil.conversation import Conversation
from instil.exporting.parity import Parity, check_answers, check_ids, check_merge, logits_on
from instil.generation.engine import Engine
from instil.generation.settings import LoadSettings, Precision
from instil.model.folder.generation_config import set_stop_ids
from instil.model.folder.location import locate, run_folder
from instil.model.folder.saving import save_tokenizer
from instil.screen import work
from instil.training.model_card.papers import published_name


def adapter_of(name: str | Path) -> Path | None:
    """Return the adapter that a run trained beside its merged model; None for anything else."""
    location = locate(name)
    run = run_folder(location)
    adapter = None if run is None or location.kind != "run" or location.adapter_folder else run / "adapter"
    return adapter if adapter is not None and (adapter / "adapter_config.json").exists() else None


@work("comparing the merged model with base and adapter")
def check_run_merge(adapter: Path, engine: Engine, prompts: Sequence[Sequence[int]], *, device: str) -> float:
    """Compare a run's merged model with base plus adapter, and return the largest change of a logit.

    Args:
        adapter: The run's adapter folder.
        engine: The run's merged model, in the type of the export.
        prompts: Token ids to compare on.
        device: Where to compute.

    Raises:
        ExportError: If a logit differs by more than the bound of the weights' type.
        ModelError: If the adapter's base is missing.
    """
    dtype = next(engine.model.parameters()).dtype
    precision: Precision = "fp32" if dtype == torch.float32 else "bf16" if dtype == torch.bfloat16 else "fp16"
    unmerged = Engine.load(adapter, LoadSettings(precision=precision, device=device))
    num_tokens = len(engine.tokenizer)
    before = logits_on(unmerged.model, prompts, num_tokens=num_tokens)
    del unmerged
    assert engine.location is not None
    stored = stored_type(engine.location.folder)
    after = logits_on(engine.model, prompts, num_tokens=num_tokens)
    return check_merge(
        before,
        after,
        stored if stored != torch.float32 else dtype,
        remedy=f"{engine.location.folder} is not what was trained, {adapter} is. Export the adapter itself, which is "
        f"merged anew: instil export {adapter} OUT --dtype fp32",
    )


def stored_type(folder: Path) -> torch.dtype:
    """Return the type of a model folder's stored weights, as its config says."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def write_adapter(engine: Engine, folder: Path, conversations: Sequence[Conversation], *, device: str) -> Parity:
    """Copy an adapter with tokenizer, template and generation_config; its base is named so that others find it.

    Raises:
        ExportError: If a parity check fails.
    """
    assert engine.chat is not None
    location = engine.location
    assert location is not None
    assert location.adapter_folder is not None
    for path in sorted(location.adapter_folder.iterdir()):
        if path.is_file() and path.name != "README.md":
            shutil.copy2(path, folder / path.name)
    save_tokenizer(engine.chat, folder)
    base: Any = engine.model.get_base_model()  # type: ignore[operator]
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = location.base_name
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    set_stop_ids(base, engine.chat.stop_ids, pad_id=engine.chat.pad_id)
    base.generation_config.save_pretrained(str(folder))
    base.config.save_pretrained(str(folder / ".base"))
    shutil.copy2(folder / ".base" / "config.json", folder / "config.json")
    try:
        parity, compared = check_ids(engine.chat, folder, conversations)
    finally:
        (folder / "config.json").unlink()  # with a config.json, an adapter folder would look like a complete model
        shutil.rmtree(folder / ".base", ignore_errors=True)
    exported = Engine.load(folder, LoadSettings(precision="fp32", device=device))
    return replace(
        check_answers(parity, engine, exported, compared, exact=True), notes=(_base_note(location.base_name),)
    )


def _base_note(base: str) -> str:
    """Return which base the adapter needs, and that others cannot find it if it is named by a local path."""
    name = published_name(base)
    if name == base:
        return f"base: {base}"
    return (
        f"base: {name}, named by a local path in adapter_config.json. Replace the path by its Hub id before you share "
        "the adapter"
    )
