"""Threads and determinism, which torch holds for a whole process: as a recipe asks while its run lasts, and then as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from instil.recipe import Recipe


@contextlib.contextmanager
def torch_as_asked(recipe: Recipe) -> Iterator[None]:
    """Set threads and determinism for the run, and set them back."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    if recipe.training.deterministic and torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill
