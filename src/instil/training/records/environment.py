"""Where a run took place: versions, device, fingerprints. Written before the first step."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from instil.environment.packages import installed_versions
from instil.units import counted

PACKAGES = ("instil", "torch", "transformers", "tokenizers", "safetensors", "peft", "datasets", "numpy", "bitsandbytes")


def describe_environment(device: torch.device, **fingerprints: Any) -> dict[str, Any]:
    """Return versions, device and fingerprints as JSON values.

    Args:
        device: Where the run computes.
        **fingerprints: Of data, template, encoder, and whatever else identifies the run.

    Example:
        >>> describe_environment(torch.device("cpu"), data="abc")["fingerprints"]
        {'data': 'abc'}
    """
    return {
        "versions": installed_versions(PACKAGES),
        "platform": platform.platform(),
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "fingerprints": fingerprints,
    }


def describe_device(device: torch.device) -> str:
    """Return the name of a device, for people.

    Example:
        >>> describe_device(torch.device("cpu")).startswith("CPU")
        True
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    threads = torch.get_num_threads()
    return f"CPU ({counted(threads, 'thread')})" if device.type == "cpu" else device.type
