"""Finds which weights of a model get adapters, and which of the requested ones get none.

peft decides what `all-linear` means, and maps names of a mixture's former layers to the experts' stacked tensors. It
does not report what it leaves out that way.

Why: a name means layers, and stacked tensors only if no layer has it. The usual list (``gate_proj, up_proj,
down_proj``) then means in a mixture's dense layers what it means in other models.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from instil.errors import ModelError, nearest
from instil.model.parts import beyond_text
from instil.model.quantization import num_weights
from instil.model.underlying import underlying
from instil.units import counted

ALL_LINEAR = "all-linear"
_PATTERN_CHARACTERS = frozenset(r"*+?()[]{}|^$\\")
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets to pass to peft.

    Attributes:
        modules: Names of layers, or `all-linear`.
        parameters: Names of stacked tensors, such as a mixture's experts.
        excluded: Full names of layers to leave out, because an adapter does not fit them or text never reaches them.
    """

    modules: str | list[str]
    parameters: list[str]
    excluded: list[str]


def find_targets(model: Any, targets: str | list[str]) -> Targets:
    """Return what the recipe's target names mean in a model.

    Args:
        model: transformers' model, on any device.
        targets: The recipe's `adapter.targets`.

    Raises:
        ModelError: If a name belongs neither to a layer that takes an adapter nor to a stacked tensor.
    """
    unread = tuple(f"{part}." for part in beyond_text(model))
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    unfit = [name for name, layer in linear if f"{name}.".startswith(unread) or not _fits(layer)]
    if targets == ALL_LINEAR:  # peft takes these layers by their class, so it must be told what to exclude
        return Targets(ALL_LINEAR, [], [*unfit, *(name for name in _read_past(model) if name not in unfit)])
    layers = [name for name, _ in _layers(model, embeddings=True) if name not in unfit]
    stacked = [name for name, _ in _stacked(model)]
    modules, parameters = [], []
    for name in [targets] if isinstance(targets, str) else targets:
        # Layers first: peft would take both for a name that layers and stacked tensors share.
        if any(_ends_with(layer, name) for layer in layers):
            modules.append(name)
        elif any(_ends_with(tensor, name) for tensor in stacked):
            parameters.append(name)
        else:
            raise ModelError(_no_layer(name, [*layers, *stacked]))
    return Targets(modules, parameters, unfit)


def _no_layer(name: str, paths: Sequence[str]) -> str:
    """Return the error for a target that names no layer. peft takes a regular expression there, and others a glob."""
    known = sorted({path.rpartition(".")[2] for path in paths})
    if _PATTERN_CHARACTERS.isdisjoint(name):
        return (
            f"adapter.targets: no layer {name!r}{nearest(name, known)} that takes an adapter. This model has "
            f"{', '.join(known)}. Name some of them, or use all-linear."
        )
    matching = _matching(name, paths)
    examples = matching or known
    more = ", …" if len(examples) > _SHOWN_NAMES else ""
    return (
        f"adapter.targets: {name!r} is a pattern, and patterns are not taken. Expected names of layers, or their last "
        f"parts. {'The pattern matches' if matching else 'This model has'} {', '.join(examples[:_SHOWN_NAMES])}{more}. "
        "List names, or use all-linear."
    )


def _matching(pattern: str, paths: Sequence[str]) -> list[str]:
    """Return the shortest names that mean exactly what a pattern matches: kinds of layers, else complete names."""
    try:
        matches = re.compile(pattern).fullmatch
    except re.error:
        matches = re.compile(fnmatch.translate(pattern)).match
    matching = [path for path in paths if matches(path) or matches(path.rpartition(".")[2])]
    kinds = sorted({path.rpartition(".")[2] for path in matching})
    meant = [path for path in paths if any(_ends_with(path, kind) for kind in kinds)]
    return kinds if len(meant) == len(matching) else matching


def left_out(model: Any, targets: str | list[str]) -> list[str]:
    """Return a note that lists the requested weights without an adapter, which stay unchanged.

    Args:
        model: peft's model, of which only adapters train.
        targets: The recipe's `adapter.targets`.

    Returns:
        One note, or none if every requested weight has an adapter.
    """
    from peft.tuners.lora import LoraLayer

    inner = underlying(model)
    layers = {f"{name}.weight": num_weights(layer.weight) for name, layer in _layers(inner, embeddings=False)}
    stacked = {name: value.numel() for name, value in _stacked(inner)}
    # What peft really adapted: a stacked tensor by its own name, a layer by its weight's.
    reached = {
        f"{_plain(name)}.{getattr(layer, 'parameter_name', None) or 'weight'}"
        for name, layer in inner.named_modules()
        if isinstance(layer, LoraLayer)
    }
    requested = layers | stacked
    if targets != ALL_LINEAR:  # stacked tensors that a name meant are reached, or `find_targets` had refused it
        names = [targets] if isinstance(targets, str) else targets
        requested = {path: layers[path] for path in layers if any(_ends_with(path, f"{name}.weight") for name in names)}
    missing = {path: size for path, size in requested.items() if path not in reached}
    if not missing:
        return []
    # One entry for all layers of a kind: model.layers.*.mlp.gate_proj.
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name.removesuffix(".weight")) for name in missing))
    share = sum(missing.values()) / sum(num_weights(value) for value in inner.parameters())
    experts = list(dict.fromkeys(".".join(name.rsplit(".", 2)[1:]) for name in missing if name in stacked))
    more = f"; to train them name layers and {', '.join(experts)}" if experts else ""
    return [
        f"adapter.targets: no adapter goes onto {', '.join(kinds)} ({counted(len(missing), 'tensor')}, "
        f"{share:.0%} of the model), which stay as they are{more}"
    ]


def _layers(model: Any, *, embeddings: bool) -> Iterator[tuple[str, Any]]:
    """Yield the layers that are one matrix and that text reaches, with their names.

    Without `embeddings` these are the layers that `all-linear` means: neither embeddings nor the head.
    """
    from transformers.pytorch_utils import Conv1D

    tables = () if embeddings else (model.get_input_embeddings(), model.get_output_embeddings())
    inside = {part for table in tables if table is not None for part in table.modules()}
    inside |= {part for name in beyond_text(model) for part in model.get_submodule(name).modules()}
    kinds = (nn.Linear, Conv1D, nn.Embedding) if embeddings else (nn.Linear, Conv1D)
    for name, layer in model.named_modules():
        if isinstance(layer, kinds) and layer not in inside and ".lora_" not in name:
            yield _plain(name), layer


def _stacked(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the three-dimensional tensors of an architecture's own modules, with their names: stacked experts."""
    for name, module in model.named_modules():
        if not type(module).__module__.startswith(("torch.", "peft.")):
            for key, value in module.named_parameters(recurse=False):
                if value.ndim == 3:
                    yield f"{_plain(name)}.{key}", value


def _fits(layer: nn.Linear) -> bool:
    """Return whether a layer returns its matrix product and nothing else.

    Llama 4's router, for example, returns a pair, to which an adapter's output cannot be added.
    """
    is_packed = not layer.weight.is_floating_point()  # a layer of bitsandbytes
    if is_packed or type(layer).forward is nn.Linear.forward:
        return True
    bare = {name: torch.empty_like(value, device="meta") for name, value in layer.named_parameters()}
    x = torch.empty(1, 2, layer.in_features, dtype=layer.weight.dtype, device="meta")
    try:
        output = torch.func.functional_call(layer, bare, (x,))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    return isinstance(output, torch.Tensor) and output.shape == (1, 2, layer.out_features)


def _read_past(model: Any) -> list[str]:
    """Return the names of layers whose weight the surrounding layer may read directly, without calling them.

    An adapter would have no effect there. State-space layers do this with `dt_proj` and `out_proj`.
    """
    read = {layer: _weights_read(layer) for layer in {type(module) for module in model.modules()}}
    return [
        f"{outer}.{name}".lstrip(".")
        for outer, parent in model.named_modules()
        for name, module in parent.named_children()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings() and name in read[type(parent)]
    ]


def _weights_read(layer: type[nn.Module]) -> frozenset[str]:
    """Return the names of a layer's parts whose weight its code uses directly."""
    if not layer.__module__.startswith("transformers.models."):
        return frozenset()
    return frozenset(re.findall(r"self\.(\w+)\.weight\b(?!\.(?:dtype|device))", inspect.getsource(layer)))


def _plain(name: str) -> str:
    """Return the name that a module had before peft wrapped it."""
    return name.replace(".base_layer", "")


def _ends_with(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
