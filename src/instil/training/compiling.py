"""torch.compile of a model's blocks, where the recipe asks for it.

Each block is compiled by itself, with any number of tokens. Questionable on purpose: attention is left out. It runs example by example, so
its graph would be another one for every micro-batch; what is compiled is everything around it.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch

from instil.errors import RecipeError
from instil.model.attention.flat import ATTENTION_NAME, attend
from instil.model.parts import blocks_of


def wants_compiling(asked: str, device: torch.device, *, sharded: bool = False, quantized: bool = False) -> bool:
    """Decide `auto`: on GPUs, where there is a compiler.

    Args:
        asked: The recipe's `training.compile`.
        device: Where the run computes.
        sharded: Whether the weights lie in shards.
        quantized: Whether the base is quantised.

    Raises:
        RecipeError: If it is asked for and there is no compiler, or it has not been proved with what the recipe asks for.
    """
    for wrong, what in ((sharded, "sharded weights"), (quantized, "a quantised base")):
        if wrong and asked == "on":
            raise RecipeError(f"training.compile: on: not with {what}; set training.compile: off")
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    if asked == "on" and not has_compiler:
        raise RecipeError(
            "training.compile: on, but there is no C++ compiler; expected g++ or clang++ on the path; "
            "install one, or set training.compile: off"
        )
    may = has_compiler and not sharded and not quantized
    return asked == "on" or (asked == "auto" and device.type == "cuda" and may)


def compile_blocks(model: Any) -> int:
    """Compile the blocks of a model in place, and count them."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, torch.compiler.disable(attend))  # type: ignore[no-untyped-call]
    blocks = blocks_of(model)
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)
