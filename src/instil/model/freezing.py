"""Freezes parameters: those that a recipe names, and those that text never reaches."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from instil.errors import ModelError
from instil.model.parts import beyond_text

_REGEX_CHARACTERS = frozenset(r"\^$+()|{}")


def freeze(model: Any, patterns: Sequence[str]) -> int:
    """Freeze the parameters whose names match.

    Args:
        model: Any module.
        patterns: Names with ``*`` and ``?``; a pattern matches a complete name, or its rest after any dot.

    Returns:
        The number of tensors that were trainable and are now frozen.

    Raises:
        ModelError: If a pattern matches nothing, or nothing is left to train.
    """
    frozen = 0
    for pattern in patterns:
        matching = [value for name, value in model.named_parameters() if _matches(name, pattern)]
        if not matching:
            raise ModelError(f"training.freeze: {_why_nothing_matches(model, pattern)}")
        for value in matching:
            frozen += value.requires_grad
            value.requires_grad_(False)
    if not any(value.requires_grad for value in model.parameters()):
        raise ModelError("training.freeze: nothing is left to train. Freeze less.")
    return frozen


def freeze_beyond_text(model: Any) -> Any:
    """Freeze the parts that text never reaches (see `beyond_text`), and return the model.

    They get no gradient, and weight decay would shrink them.
    """
    for name in beyond_text(model):
        model.get_submodule(name).requires_grad_(False)
    return model


def _why_nothing_matches(model: Any, pattern: str) -> str:
    """Return the reason: the pattern names a tied weight by its second name, or no parameter at all."""
    names = {id(value): name for name, value in model.named_parameters()}
    for name, value in model.named_parameters(remove_duplicate=False):
        if _matches(name, pattern):
            return (
                f"{pattern!r} names {name}, which is {names[id(value)]} by another name (tied). One weight cannot "
                f"train in one place alone. Freeze {names[id(value)]}, or leave the pattern out."
            )
    wildcards = " Only * and ? are wildcards." if not _REGEX_CHARACTERS.isdisjoint(pattern) else ""
    return (
        f"{pattern!r} matches no parameter.{wildcards} Names look like {', '.join(list(names.values())[:3])}. "
        "Correct the pattern."
    )


def _matches(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[start:]), pattern) for start in range(len(parts)))
