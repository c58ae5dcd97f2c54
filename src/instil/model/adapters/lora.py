"""Decides what of a model trains: all of it, a new LoRA adapter, or a saved adapter that training continues.

New chat tokens train with an adapter: exactly their rows of the input embedding and of the output head, tied or not.
They are peft's own parameters, so plain peft loads what is saved.

Why: a frozen head is never split to train its new rows. Their scores replace the head's (see `token_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import open_adapter
from instil.model.adapters.targets import find_targets
from instil.model.adapters.token_rows import use_row_arithmetic
from instil.model.folder.config import reason_of
from instil.model.freezing import freeze_beyond_text
from instil.model.library_noise import quiet_peft
from instil.model.quantization import import_bitsandbytes, is_quantized
from instil.recipe import AdapterSettings


def prepare_adapters(model: Any, settings: AdapterSettings, *, trained_ids: Sequence[int] = (), seed: int = 0) -> Any:
    """Prepare a model for full fine-tuning or for adapters, as the recipe says.

    Args:
        model: transformers' model, or a peft model if the recipe's model is itself an adapter.
        settings: The recipe's `adapter`; `resume_from` counts only if the model is not an adapter itself.
        trained_ids: Ids of tokens whose rows of embedding and head must train too (`RowChange.trained_ids`).
        seed: Seed of a new adapter's first weights.

    Returns:
        For full fine-tuning the model itself, after merging an adapter that is on it. Otherwise a peft model of which
        only the adapter and the rows train.

    Raises:
        ModelError: If the model has no such target, a continued adapter lacks a row that must train, or quantised
            weights would have to train.
    """
    is_adapter = hasattr(model, "peft_config")
    if settings.kind == "none":
        if is_quantized(model):
            raise ModelError(
                "model.quantize: quantised weights cannot train. Set adapter.kind: lora, or model.quantize: none."
            )
        return freeze_beyond_text(merge_in_place(model).requires_grad_(True) if is_adapter else model)
    if is_adapter:
        return _continue(model, trained_ids)
    if settings.resume_from:
        return _continue(open_adapter(model, Path(settings.resume_from), trains=True), trained_ids)
    return _new_adapter(model, settings, trained_ids, seed)


def _new_adapter(model: Any, settings: AdapterSettings, trained_ids: Sequence[int], seed: int) -> Any:
    import_bitsandbytes()
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
        except ValueError as error:  # layers that peft refuses, such as Mamba's
            raise ModelError(f"adapter.targets: {reason_of(error).rstrip('.')}. {_remedy(error, settings)}") from None
    use_row_arithmetic(adapted)
    return adapted


def _remedy(error: ValueError, settings: AdapterSettings) -> str:
    # ParamWrapper is peft's adapter of a mixture's stacked experts.
    if "ParamWrapper" in str(error) and (settings.dropout or settings.dora):
        return (
            "The stacked experts of this model take adapters without adapter.dropout and adapter.dora. Leave these "
            "out, or name layers that are not experts."
        )
    return "Name other layers, or set adapter.kind: none."


def _token_rows(model: Any, targets: str | list[str], trained_ids: Sequence[int]) -> dict[str, list[int]] | None:
    """Return peft's trainable rows: the ids by the name of the embedding and, if it is not tied, of the head."""
    if not trained_ids:
        return None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    modules = {module: name for name, module in model.named_modules() if module in (embedding, head)}
    names = [modules[embedding]]
    if head.weight is not embedding.weight:
        names.append(modules[head])
    target_names = {targets} if isinstance(targets, str) else set(targets)
    both = target_names & {name.rsplit(".", 1)[-1] for name in modules.values()}
    if both:
        raise ModelError(
            f"adapter.targets: {min(both)} is a target and has new chat tokens, whose rows train by themselves. "
            "Leave it out of the targets."
        )
    return {name: sorted(int(index) for index in trained_ids) for name in names}


def _continue(model: Any, trained_ids: Sequence[int]) -> Any:
    """Check that an adapter to continue already trains the rows that must train, and return the model."""
    config = model.peft_config[model.active_adapter]
    rows = config.trainable_token_indices or {}
    known = set(rows if isinstance(rows, list) else next(iter(rows.values()), []))
    missing = sorted(set(trained_ids) - known)
    if missing:
        raise ModelError(
            f"adapter: the adapter to continue does not train the rows of tokens {missing[:4]}. "
            "Merge it first (instil export), or use the template that it was trained with."
        )
    return model
