"""torch.compile of a model's blocks, if the recipe asks for it.

Each block is compiled by itself, for any number of tokens.

Why: attention is left out. It runs example by example, so its graph would differ for every micro-batch. Everything
around it is compiled.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch

from instil.errors import RecipeError
from instil.model.attention.flat import ATTENTION_NAME, attend
from instil.model.parts import blocks_of


def wants_compiling(
    setting: str,
    device: torch.device,
    *,
    sharded: bool = False,
    quantized: bool = False,
    offloads: bool = False,
    shared: bool = False,
) -> bool:
    """Decide whether a run compiles. `auto` compiles on GPUs, if there is a compiler and everything else supports it.

    Args:
        setting: The recipe's `training.compile`.
        device: Where the run computes.
        sharded: Whether the weights lie in shards.
        quantized: Whether the base is quantised.
        offloads: Whether activations are kept in the machine's memory.
        shared: Whether processes share the tokens of micro-batches.

    Raises:
        RecipeError: If the setting is `on`, and there is no compiler or compiling has not been tested with the other
            settings.
    """
    untested = (
        (sharded, "sharded weights"),
        (quantized, "a quantised base"),
        (offloads, "training.offload_activations: on"),
        (shared, "parallel.sequence"),
    )
    for unsupported, what in untested:
        if unsupported and setting == "on":
            raise RecipeError(f"training.compile: on: not with {what}; set training.compile: off.")
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    if setting == "on" and not has_compiler:
        raise RecipeError(
            "training.compile: on, but there is no C++ compiler. Expected g++ or clang++ on the path. "
            "Install one, or set training.compile: off."
        )
    may = has_compiler and not any(unsupported for unsupported, _ in untested)
    return setting == "on" or (setting == "auto" and device.type == "cuda" and may)


def compile_blocks(model: Any) -> int:
    """Compile the blocks of a model in place, and return their number."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, torch.compiler.disable(attend))  # type: ignore[no-untyped-call]
    blocks = blocks_of(model)
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)
