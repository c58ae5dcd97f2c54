"""Which weights of a model get adapters, and which of those that a recipe asks for get none.

peft decides what `all-linear` means, and moves names of a mixture's former layers to the experts' stacked tensors; what it leaves out by that
it does not say. Questionable on purpose: a name means layers, and stacked tensors only where no layer has it, so that the usual list
(``gate_proj, up_proj, down_proj``) means in a mixture's dense layers what it means elsewhere.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from instil.errors import ModelError, nearest
from instil.model.parts import beyond_text, underlying

ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class Targets:
    """What peft is asked for.

    Attributes:
        modules: Names of layers, or `all-linear`.
        parameters: Names of stacked tensors, such as a mixture's experts.
        excluded: Full names of the layers that no adapter fits, or that text never reaches.
    """

    modules: str | list[str]
    parameters: list[str]
    excluded: list[str]


def find_targets(model: Any, targets: str | list[str]) -> Targets:
    """Find what the recipe's names mean in a model.

    Args:
        model: transformers' model, on any device.
        targets: The recipe's `adapter.targets`.

    Raises:
        ModelError: If a name is in the model neither as a layer that takes an adapter nor as a stacked tensor.
    """
    unread = tuple(f"{part}." for part in beyond_text(model))
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    unfit = [name for name, layer in linear if f"{name}.".startswith(unread) or not _fits(layer)]
    if targets == ALL_LINEAR:
        return Targets(ALL_LINEAR, [], [*unfit, *(name for name in _read_past(model) if name not in unfit)])
    layers = [name for name, _ in _layers(model, embeddings=True) if name not in unfit]
    stacked = [name for name, _ in _stacked(model)]
    modules, parameters = [], []
    for name in [targets] if isinstance(targets, str) else targets:
        if any(_ends_with(layer, name) for layer in layers):
            modules.append(name)
        elif any(_ends_with(tensor, name) for tensor in stacked):
            parameters.append(name)
        else:
            known = sorted({each.rpartition(".")[2] for each in (*layers, *stacked)})
            raise ModelError(
                f"adapter.targets: no layer {name!r}{nearest(name, known)} that takes an adapter; this model has "
                f"{', '.join(known)}; name some of them, or use all-linear"
            )
    return Targets(modules, parameters, unfit)


def left_out(model: Any, targets: str | list[str]) -> list[str]:
    """Say in a note which weights that the recipe asks for have no adapter and stay as they are; empty where each has one.

    Args:
        model: peft's model, of which only adapters train.
        targets: The recipe's `adapter.targets`.
    """
    from peft.tuners.lora import LoraLayer

    inner = underlying(model)
    layers = {f"{name}.weight": layer.weight.numel() for name, layer in _layers(inner, embeddings=False)}
    stacked = {name: value.numel() for name, value in _stacked(inner)}
    reached = {
        f"{_plain(name)}.{getattr(layer, 'parameter_name', None) or 'weight'}"
        for name, layer in inner.named_modules()
        if isinstance(layer, LoraLayer)
    }
    asked = layers | stacked
    if targets != ALL_LINEAR:
        named = [targets] if isinstance(targets, str) else targets
        asked = {name: layers[name] for name in layers if any(_ends_with(name, f"{each}.weight") for each in named)}
    missing = {name: size for name, size in asked.items() if name not in reached}
    if not missing:
        return []
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name.removesuffix(".weight")) for name in missing))
    share = sum(missing.values()) / sum(value.numel() for value in inner.parameters())
    experts = list(dict.fromkeys(".".join(name.rsplit(".", 2)[1:]) for name in missing if name in stacked))
    more = f"; to train them name layers and {', '.join(experts)}" if experts else ""
    return [
        f"adapter.targets: no adapter goes onto {', '.join(kinds)} ({len(missing)} tensors, {share:.0%} of the model), "
        f"which stay as they are{more}"
    ]


def _layers(model: Any, *, embeddings: bool) -> Iterator[tuple[str, Any]]:
    """Name the layers that text reaches and that are one matrix; without `embeddings`, those that `all-linear` means: neither embeddings nor the head."""
    from transformers.pytorch_utils import Conv1D

    tables = () if embeddings else (model.get_input_embeddings(), model.get_output_embeddings())
    inside = {part for table in tables if table is not None for part in table.modules()}
    inside |= {part for name in beyond_text(model) for part in model.get_submodule(name).modules()}
    kinds = (nn.Linear, Conv1D, nn.Embedding) if embeddings else (nn.Linear, Conv1D)
    for name, layer in model.named_modules():
        if isinstance(layer, kinds) and layer not in inside and ".lora_" not in name:
            yield _plain(name), layer


def _stacked(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name the tensors of three dimensions that an architecture's own modules have: experts, one behind another."""
    for name, module in model.named_modules():
        if not type(module).__module__.startswith(("torch.", "peft.")):
            for key, value in module.named_parameters(recurse=False):
                if value.ndim == 3:
                    yield f"{_plain(name)}.{key}", value


def _fits(layer: nn.Linear) -> bool:
    """Say whether a layer gives its matrix product and nothing else; Llama 4's router, for one, gives a pair, to which nothing can be added."""
    if type(layer).forward is nn.Linear.forward or not layer.weight.is_floating_point():  # packed: bitsandbytes' own
        return True
    bare = {name: torch.empty_like(value, device="meta") for name, value in layer.named_parameters()}
    x = torch.empty(1, 2, layer.in_features, dtype=layer.weight.dtype, device="meta")
    try:
        given = torch.func.functional_call(layer, bare, (x,))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False
    return isinstance(given, torch.Tensor) and given.shape == (1, 2, layer.out_features)


def _read_past(model: Any) -> list[str]:
    """Name the layers whose weight the layer around them may read past their forward, where an adapter would not count: state spaces' `dt_proj`, `out_proj`."""
    read = {layer: _weights_read(layer) for layer in {type(module) for module in model.modules()}}
    return [
        f"{outer}.{name}".lstrip(".")
        for outer, parent in model.named_modules()
        for name, module in parent.named_children()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings() and name in read[type(parent)]
    ]


def _weights_read(layer: type[nn.Module]) -> frozenset[str]:
    """Name the parts of a layer whose weight its own code uses, rather than calling the part."""
    if not layer.__module__.startswith("transformers.models."):
        return frozenset()
    return frozenset(re.findall(r"self\.(\w+)\.weight\b(?!\.(?:dtype|device))", inspect.getsource(layer)))


def _plain(name: str) -> str:
    """Give the name that a module had before peft wrapped it."""
    return name.replace(".base_layer", "")


def _ends_with(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
