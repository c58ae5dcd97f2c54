"""Names of settings in other tools, for the error about an unknown key and for docs/how-to/coming-from.md.

The right side of the table names settings of `recipe`.

Why: nothing is translated. A setting of another tool may mean something slightly different (a batch size per device, a
template under another name). So the error shows our name and the user writes the value.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER_NAMES: Mapping[str, str] = {
    "adapter_name_or_path": "adapter.resume_from",
    "assistant_only_loss": "data.train_on",
    "base_model": "model.name",
    "chat_template": "model.template",
    "cpo_alpha": "preference.sft_weight",
    "completion_only_loss": "data.train_on",
    "cutoff_len": "data.max_tokens",
    "dataset": "data.sources",
    "dataset_name": "data.sources",
    "dataset_prepared_path": "data.store",
    "datasets": "data.sources",
    "eval_steps": "evaluate.every",
    "excess_length_strategy": "data.too_long",
    "finetuning_type": "adapter.kind",
    "gradient_accumulation_steps": "training.batch_size",
    "kto_chosen_weight": "preference.desirable_weight",
    "kto_rejected_weight": "preference.undesirable_weight",
    "learning_rate": "optimizer.lr",
    "load_in_4bit": "model.quantize",
    "load_in_8bit": "model.quantize",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_model_dir": "adapter.resume_from",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_target": "adapter.targets",
    "lora_target_modules": "adapter.targets",
    "loss_type": "training.objective",
    "lr_scheduler": "optimizer.schedule",
    "lr_scheduler_type": "optimizer.schedule",
    "mask_history": "data.train_on",
    "max_grad_norm": "optimizer.clip",
    "max_length": "data.max_tokens",
    "max_seq_length": "data.max_tokens",
    "micro_batch_size": "training.batch_size",
    "model_name_or_path": "model.name",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "output_dir": "output",
    "orpo_alpha": "preference.beta",
    "per_device_train_batch_size": "training.batch_size",
    "pref_beta": "preference.beta",
    "pref_ftx": "preference.sft_weight",
    "pref_loss": "training.objective",
    "report_to": "tracking.to",
    "rl": "training.objective",
    "rl_beta": "preference.beta",
    "roles_to_train": "data.train_on",
    "rpo_alpha": "preference.sft_weight",
    "run_name": "tracking.name",
    "save_steps": "checkpoint.every",
    "simpo_gamma": "preference.margin",
    "sequence_len": "data.max_tokens",
    "target_modules": "adapter.targets",
    "train_on_inputs": "data.train_on",
    "train_on_prompt": "data.train_on",
    "train_on_responses_only": "data.train_on",
    "use_dora": "adapter.dora",
    "use_rslora": "adapter.rank_stabilized",
    "val_set_size": "data.heldout_share",
    "val_size": "data.heldout_share",
    "wandb_project": "tracking.project",
    "warmup_ratio": "optimizer.warmup",
    "warmup_steps": "optimizer.warmup",
}
"""Settings of TRL, Axolotl, LLaMA-Factory and Unsloth, each with the setting here that decides the same."""

NOT_NEEDED: Mapping[str, str] = {
    "group_by_length": "nothing is padded",
    "pad_to_sequence_len": "nothing is padded",
    "packing": "examples are always laid end to end without padding, and none sees another",
    "sample_packing": "examples are always laid end to end without padding, and none sees another",
}
"""Settings of other tools that are not needed here, with the reason."""


def last_name(key: str) -> str:
    """Return the name of a setting without its group, from a recipe key or a command-line option.

    Example:
        >>> last_name("--training.learning-rate")
        'learning_rate'
    """
    return key.lstrip("-").replace("-", "_").rpartition(".")[2]


_ALONE = frozenset({"rl"})
"""Names without a group elsewhere. In a group of ours they are a slip: ``optimizer.rl`` for ``optimizer.lr``."""


def known_elsewhere(key: str) -> str:
    """Return `` (…)`` with our name for a key of another tool, or an empty string.

    Args:
        key: A key of a recipe, dotted or not, or an option of the command line.

    Example:
        >>> known_elsewhere("--training.learning-rate")
        " (what other tools call 'learning_rate' is optimizer.lr here)"
        >>> known_elsewhere("data.packing")
        ' (not needed: examples are always laid end to end without padding, and none sees another)'
        >>> known_elsewhere("colour")
        ''
    """
    name = last_name(key)
    if name in _ALONE and "." in key:
        return ""
    if name in NOT_NEEDED:
        return f" (not needed: {NOT_NEEDED[name]})"
    return f" (what other tools call {name!r} is {OTHER_NAMES[name]} here)" if name in OTHER_NAMES else ""
