"""Are the weights on disk those that config.json describes? Asked of the files' headers, before a byte of a weight is read.

transformers itself is asked, with tensors that have a size and no content: it alone knows how the names in files become the names of a model's
parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.folder.config import CANNOT_LOAD, model_of_config
from instil.model.folder.location import ModelLocation, read_header, weight_files
from instil.model.library_noise import quiet_transformers

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def check_shapes(location: ModelLocation, config: Any, *, trust: bool) -> Any:
    """Make a model without content, on `meta`, and check that its folder has every one of its weights in its size.

    Args:
        location: The model's place, its files whole (`location.check_weights`).
        config: Its config.
        trust: Whether code that comes with the model may run.

    Raises:
        ModelError: If the model cannot be made, a weight is missing, or one has another size.
    """
    with torch.device("meta"):
        model = model_of_config(location, config, trust=trust)
    if getattr(config, "quantization_config", None) is not None:
        return model  # packed weights have names and sizes of their own
    named = {
        name: torch.empty(entry["shape"], dtype=_TYPES.get(entry["dtype"], torch.uint8), device="meta")
        for path in weight_files(location.folder)
        for name, entry in read_header(path).items()
    }
    try:
        with quiet_transformers():
            _, report = type(model).from_pretrained(
                None,
                config=config,
                state_dict=named,
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except CANNOT_LOAD:
        return model  # a model that has no use for weights without content: loading it will say what is wrong
    check_report(location, report)
    return model


def check_report(location: ModelLocation, report: Any) -> None:
    """Raise ModelError where transformers found a weight missing, or one of another size."""
    missing = sorted(report.get("missing_keys") or ())
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report.get("mismatched_keys") or ())
    if missing or mismatched:
        what = f"lack {missing[0]}" if missing else f"have another size for {mismatched[0]}"
        raise ModelError(
            f"{location.folder}: the weights {what} ({len(missing) + len(mismatched)} such tensors); "
            "expected all that config.json describes; copy or download the model again"
        )


@torch.no_grad()
def check_finite(folder: Path, model: torch.nn.Module) -> None:
    """Raise ModelError where a weight is not a number, or infinite: every answer and every loss would be too."""
    damaged = [
        name
        for name, value in model.named_parameters()
        if value.dtype in _TYPES.values() and value.numel() and not all(end.isfinite() for end in value.aminmax())
    ]
    if damaged:
        raise ModelError(
            f"{folder}: the weights are damaged: {damaged[0]} holds a value that is no finite number ({len(damaged)} such tensors); "
            "expected finite ones; copy or download the model again"
        )
