"""Low-rank adapters: made, continued, saved and merged through peft.

New chat tokens train with them: exactly those rows of the input embedding and of the output head, tied or not, in peft's own
parameters, so that plain peft loads what is saved here. Questionable on purpose: a frozen head is never cut for its new rows;
their scores are laid over the head's (see `token_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.adapters.targets import find_targets
from instil.model.adapters.token_rows import use_row_arithmetic
from instil.model.folder.config import reason_of
from instil.model.folder.location import ADAPTER_CONFIG, check_adapter, read_json
from instil.model.library_noise import quiet_peft
from instil.model.new_tokens import add_rows
from instil.model.parts import beyond_text, underlying
from instil.recipe import AdapterSettings

SAVED_AS = {
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "rank_stabilized": "use_rslora",
    "dora": "use_dora",
    "targets": "target_modules",
}
"""The recipe's names of what peft's adapter_config.json holds."""


def prepare_adapters(model: Any, settings: AdapterSettings, *, trained_ids: Sequence[int] = (), seed: int = 0) -> Any:
    """Make what trains of a model what the recipe asks for.

    Args:
        model: transformers' model, or a peft model where the recipe's model name is an adapter.
        settings: The recipe's `adapter`; its `resume_from` counts where the model is no adapter itself.
        trained_ids: Token ids whose rows of embedding and head must train too (`RowChange.trained_ids`).
        seed: Of the adapters' first weights.

    Returns:
        The model itself for full fine-tuning (an adapter on it is merged first), else a peft model of which only the
        adapter and the rows train.

    Raises:
        ModelError: If a target is not in the model, an adapter that goes on lacks a row that must train, or the weights are
            quantised and no adapter is asked for.
    """
    is_adapter = hasattr(model, "peft_config")
    if settings.kind == "none":
        if is_quantized(model):
            raise ModelError(
                "model.quantize: quantised weights cannot train; set adapter.kind: lora, or model.quantize: none"
            )
        return freeze_beyond_text(merge_in_place(model).requires_grad_(True) if is_adapter else model)
    if is_adapter:
        return _continue(model, trained_ids)
    if settings.resume_from:
        return _continue(open_adapter(model, Path(settings.resume_from), trains=True), trained_ids)
    return _new_adapter(model, settings, trained_ids, seed)


def _new_adapter(model: Any, settings: AdapterSettings, trained_ids: Sequence[int], seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = find_targets(model, settings.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=targets.excluded or None,
        use_rslora=settings.rank_stabilized,
        use_dora=settings.dora,
        trainable_token_indices=_token_rows(model, settings.targets, trained_ids),
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:  # layers that peft knows to be unfit, Mamba's for example
            raise ModelError(f"adapter.targets: {reason_of(error)}; {_remedy(error, settings)}") from None
    use_row_arithmetic(adapted)
    return adapted


def _remedy(error: ValueError, settings: AdapterSettings) -> str:
    # ParamWrapper is peft's adapter of a mixture's stacked experts
    if "ParamWrapper" in str(error) and (settings.dropout or settings.dora):
        return "the stacked experts of this model take adapters without adapter.dropout and adapter.dora; leave these out, or name layers that are no experts"
    return "name other layers, or set adapter.kind: none"


def freeze_beyond_text(model: Any) -> Any:
    """Freeze what text never reaches (see `beyond_text`): no gradient gets there, and weight decay would wear it away. Gives the model."""
    for name in beyond_text(model):
        model.get_submodule(name).requires_grad_(False)
    return model


def _token_rows(model: Any, targets: str | list[str], trained_ids: Sequence[int]) -> dict[str, list[int]] | None:
    """Name the embedding, and the head where it is not tied, for peft's trainable rows."""
    if not trained_ids:
        return None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    modules = {module: name for name, module in model.named_modules() if module in (embedding, head)}
    names = [modules[embedding]]
    if head.weight is not embedding.weight:
        names.append(modules[head])
    named = {targets} if isinstance(targets, str) else set(targets)
    both = named & {name.rsplit(".", 1)[-1] for name in modules.values()}
    if both:
        raise ModelError(
            f"adapter.targets: {min(both)} is a target and has new chat tokens, whose rows train by themselves; "
            "leave it out of the targets"
        )
    return {name: sorted(int(index) for index in trained_ids) for name in names}


def _continue(model: Any, trained_ids: Sequence[int]) -> Any:
    """Check that an adapter that goes on already trains the rows that must train."""
    config = model.peft_config[model.active_adapter]
    rows = config.trainable_token_indices or {}
    has = set(rows if isinstance(rows, list) else next(iter(rows.values()), []))
    missing = sorted(set(trained_ids) - has)
    if missing:
        raise ModelError(
            f"adapter: it goes on from an adapter that does not train the rows of tokens {missing[:4]}; "
            "merge it first (instil export), or use the template that it was trained with"
        )
    return model


def open_adapter(model: Any, folder: Path, *, trains: bool) -> Any:
    """Put a saved adapter on its base, which gets the rows that the adapter's new tokens need.

    Args:
        model: The base; on the device `meta` it is found out whether the adapter fits, and nothing is loaded.
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        trains: Whether its training goes on.

    Raises:
        ModelError: If the adapter is half-written, or of a base of another size.
    """
    from peft import PeftConfig

    check_adapter(folder)
    try:
        with quiet_peft():
            config = PeftConfig.from_pretrained(str(folder))
            rows = getattr(config, "trainable_token_indices", None) or {}
        highest = max(
            (index for ids in (rows.values() if isinstance(rows, dict) else [rows]) for index in ids), default=0
        )
        add_rows(model, highest + 1)
        with quiet_peft():
            adapted, strangers = _opened(model, config, folder, trains=trains)
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError, ArithmeticError) as error:
        raise _does_not_fit(folder, reason_of(error)) from None
    if strangers:
        raise _does_not_fit(folder, f"{strangers[0]}; {len(strangers)} such tensors")
    use_row_arithmetic(adapted)
    return adapted


def saved_settings(folder: Path) -> dict[str, Any]:
    """Give the settings of a saved adapter under their names in the recipe.

    Raises:
        ModelError: If its configuration is missing or damaged.
    """
    config = read_json(folder / ADAPTER_CONFIG)
    saved = {name: config[key] for name, key in SAVED_AS.items() if config.get(key) is not None}
    if isinstance(saved.get("targets"), list):  # stacked tensors are targets under a name of their own
        saved["targets"] += config.get("target_parameters") or []
    return saved


def _opened(model: Any, config: Any, folder: Path, *, trains: bool) -> tuple[Any, list[str]]:
    """Do what `PeftModel.from_pretrained` does, and say besides which of the adapter's tensors have no place, and which layers none of its own.

    peft itself drops the ones and leaves the others as if untrained: an adapter of a deeper base, or of a shallower one, would pass for whole.
    """
    from peft import PeftModel
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.mapping_func import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

    if config.is_prompt_learning and trains:
        raise ValueError("prompt learning does not go on from a saved adapter")
    config.inference_mode = not trains
    bare = any(parameter.is_meta for parameter in model.parameters())
    kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    adapted = kind(model, config, "default", low_cpu_mem_usage=bare)
    found = adapted.load_adapter(
        str(folder), "default", is_trainable=trains, low_cpu_mem_usage=bare, torch_device="cpu" if bare else None
    )
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    unknown = [f"{key} is of no layer of it" for key in found.unexpected_keys if prefix and prefix in key]
    return adapted, [*unknown, *(f"{key} is missing" for key in found.missing_keys)]


def _does_not_fit(folder: Path, why: str) -> ModelError:
    return ModelError(f"{folder}: the adapter does not fit its base ({why}); check its base model and {ADAPTER_CONFIG}")


def merge_in_place(model: Any) -> Any:
    """Add an adapter into its base's weights and give the base.

    Raises:
        ModelError: If the base is quantised: merging would round the adapter away.
    """
    if is_quantized(model):
        raise ModelError(
            "the base is quantised, and an adapter is never merged into 4-bit or 8-bit weights; "
            "load the 16-bit base with the adapter and merge that (instil export does)"
        )
    with quiet_peft():
        return model.merge_and_unload()


def is_quantized(model: Any) -> bool:
    """Say whether a model's weights are quantised."""
    inner = underlying(model)
    return bool(getattr(inner, "is_loaded_in_4bit", False) or getattr(inner, "is_loaded_in_8bit", False))


def freeze(model: Any, patterns: Sequence[str]) -> int:
    """Freeze the parameters whose names match, and count the tensors frozen.

    Args:
        model: Any module.
        patterns: Names with ``*`` and ``?``; a name matches in whole, or from any dot on.

    Raises:
        ModelError: If a pattern matches nothing, or nothing is left to train.
    """
    frozen = 0
    for pattern in patterns:
        found = [value for name, value in model.named_parameters() if _matches(name, pattern)]
        if not found:
            raise ModelError(f"training.freeze: {_why_nothing_matches(model, pattern)}")
        for value in found:
            frozen += value.requires_grad
            value.requires_grad_(False)
    if not any(value.requires_grad for value in model.parameters()):
        raise ModelError("training.freeze: nothing is left to train; freeze less")
    return frozen


def _why_nothing_matches(model: Any, pattern: str) -> str:
    names = {id(value): name for name, value in model.named_parameters()}
    for name, value in model.named_parameters(remove_duplicate=False):
        if _matches(name, pattern):
            return (
                f"{pattern!r} names {name}, which is {names[id(value)]} by another name (tied); one weight cannot train in "
                f"one place alone; freeze {names[id(value)]}, or leave the pattern out"
            )
    return f"{pattern!r} matches no parameter; names look like {', '.join(list(names.values())[:3])}; mend the pattern"


def _matches(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[start:]), pattern) for start in range(len(parts)))
