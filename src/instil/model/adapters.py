"""Low-rank adapters through peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instil.errors import ModelError


def open_adapter(model: Any, folder: Path, *, trains: bool) -> Any:
    """Put a saved adapter on its base.

    Args:
        model: The base.
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        trains: Whether its training goes on.

    Raises:
        ModelError: If the adapter is half-written or of a base of another size.
    """
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").exists():
        raise ModelError(f"{folder}: an adapter without adapter_model.safetensors; copy or download it again")
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trains)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder}: the adapter does not fit its base ({reason}); check its base model") from None
