"""Saved adapters: reads their settings, and puts them on their base. `folder.saving` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instil.errors import ModelError
from instil.model.adapters.token_rows import use_row_arithmetic
from instil.model.folder.config import reason_of
from instil.model.folder.file_checks import ADAPTER_CONFIG, check_adapter, read_json
from instil.model.library_noise import quiet_peft
from instil.model.new_tokens import add_rows
from instil.model.quantization import import_bitsandbytes

SAVED_AS: Mapping[str, str] = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "rank_stabilized": "use_rslora",
    "dora": "use_dora",
    "targets": "target_modules",
}
"""Keys of peft's adapter_config.json by the recipe's names of the same settings."""


def saved_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a saved adapter under their names in the recipe.

    Raises:
        ModelError: If its configuration is missing or damaged.
    """
    config = read_json(folder / ADAPTER_CONFIG)
    settings = {name: config[key] for name, key in SAVED_AS.items() if config.get(key) is not None}
    if isinstance(settings.get("targets"), list):  # peft lists stacked tensors under a key of their own
        settings["targets"] += config.get("target_parameters") or []
    return settings


def open_adapter(model: Any, folder: Path, *, trains: bool) -> Any:
    """Put a saved adapter on its base, and add the rows that the adapter's new tokens need.

    Args:
        model: The base. On the device `meta` this only checks whether the adapter fits; no weight is loaded.
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        trains: Whether the adapter's training continues.

    Returns:
        The peft model.

    Raises:
        ModelError: If the adapter is incomplete, or belongs to another base.
    """
    import_bitsandbytes()
    from peft import PeftConfig

    check_adapter(folder)
    try:
        with quiet_peft():
            config = PeftConfig.from_pretrained(str(folder))
            rows = getattr(config, "trainable_token_indices", None) or {}
        highest = max(
            (index for ids in (rows.values() if isinstance(rows, dict) else [rows]) for index in ids), default=0
        )
        add_rows(model, highest + 1)
        with quiet_peft():
            adapted, misfits = _open(model, config, folder, trains=trains)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError, ArithmeticError) as error:
        raise _does_not_fit(folder, reason_of(error)) from None
    if misfits:
        raise _does_not_fit(folder, f"{misfits[0]}; {len(misfits)} such tensors")
    use_row_arithmetic(adapted)
    return adapted


def _open(model: Any, config: Any, folder: Path, *, trains: bool) -> tuple[Any, list[str]]:
    """Do what `PeftModel.from_pretrained` does, and also report which tensors have no layer and which layers no tensor.

    peft ignores both: an adapter of a base with more or fewer layers would seem to fit.
    """
    from peft import PeftModel
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.mapping_func import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

    if config.is_prompt_learning and trains:
        raise ValueError("training cannot continue a saved adapter of prompt learning")
    config.inference_mode = not trains
    bare = any(parameter.is_meta for parameter in model.parameters())
    kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    adapted = kind(model, config, "default", low_cpu_mem_usage=bare)
    report = adapted.load_adapter(
        str(folder), "default", is_trainable=trains, low_cpu_mem_usage=bare, torch_device="cpu" if bare else None
    )
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    unknown = [f"{key} is of no layer of it" for key in report.unexpected_keys if prefix and prefix in key]
    return adapted, [*unknown, *(f"{key} is missing" for key in report.missing_keys)]


def _does_not_fit(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{folder}: the adapter does not fit its base ({why}). Check its base model and {ADAPTER_CONFIG}."
    )


def is_adapter_weight(name: str) -> bool:
    """Return True if a parameter belongs to a peft adapter and not to the model below it, by its name.

    Example:
        >>> is_adapter_weight("layers.0.q_proj.lora_A.default.weight"), is_adapter_weight("layers.0.q_proj.weight")
        (True, False)
    """
    return any(part.startswith(("lora_", "trainable_tokens_")) for part in name.split("."))
