"""Checks that the weights on disk are those that config.json describes, from the files' headers alone.

Why: transformers itself does the comparison, on tensors that have a size and no content. Only transformers knows how
names in files map to names of a model's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.folder.file_checks import read_header, weight_files
from instil.model.folder.from_config import CANNOT_LOAD, model_of_config
from instil.model.folder.location import ModelLocation
from instil.model.library_noise import quiet_transformers
from instil.units import counted

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def check_shapes(location: ModelLocation, config: Any, *, trust: bool) -> Any:
    """Make a model on the device `meta`, without content, and check that its folder has its weights in the right sizes.

    Args:
        location: The model's location; its files are complete (see `file_checks.check_weights`).
        config: The model's config.
        trust: Whether code that comes with the model may run.

    Returns:
        The model on `meta`.

    Raises:
        ModelError: If the model cannot be made, a weight is missing, or one has another size.
    """
    with torch.device("meta"):
        model = model_of_config(location, config, trust=trust)
    if getattr(config, "quantization_config", None) is not None:
        return model  # packed weights have other names and sizes than the parameters they become
    empty = {
        name: torch.empty(entry["shape"], dtype=_TYPES.get(entry["dtype"], torch.uint8), device="meta")
        for path in weight_files(location.folder)
        for name, entry in read_header(path).items()
    }
    try:
        with quiet_transformers():
            _, report = type(model).from_pretrained(
                None,
                config=config,
                state_dict=empty,
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except CANNOT_LOAD:
        return model  # this model cannot take weights without content; loading it will report what is wrong
    check_report(location, report)
    return model


def check_report(location: ModelLocation, report: Any) -> None:
    """Raise `ModelError` if transformers' loading report names a missing weight or one of another size."""
    missing = sorted(report.get("missing_keys") or ())
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report.get("mismatched_keys") or ())
    if missing or mismatched:
        what = f"lack {missing[0]}" if missing else f"have another size for {mismatched[0]}"
        raise ModelError(
            f"{location.folder}: the weights {what} ({len(missing) + len(mismatched)} such tensors). "
            "Expected all that config.json describes. Copy or download the model again."
        )


@torch.no_grad()
def check_finite(folder: Path, model: torch.nn.Module) -> None:
    """Raise `ModelError` if a loaded weight is NaN or infinite: every answer and every loss would be too."""
    damaged = [
        name
        for name, value in model.named_parameters()
        if value.dtype in _TYPES.values() and value.numel() and not is_finite(value)
    ]
    refuse_damaged(folder, damaged)


def is_finite(weight: torch.Tensor) -> bool:
    """Return whether a tensor that is not empty holds finite numbers alone."""
    return all(bool(end.isfinite()) for end in weight.aminmax())


def refuse_damaged(folder: Path, names: Sequence[str]) -> None:
    """Raise `ModelError` if weights are not finite.

    Args:
        folder: Where they were read from.
        names: Their names; one that several processes have found may stand there more than once.
    """
    if names:
        raise ModelError(
            f"{folder}: the weights are damaged: {names[0]} holds a value that is not a finite number "
            f"({counted(len(set(names)), 'such tensor')}). Expected finite ones. Copy or download the model again."
        )
