"""Make a saved model folder readable for transformers 4 as well as 5.

transformers 5 writes rotary settings, the type of the weights and the tokenizer's class under new names. Version 4, and
the servers and converters that are built on it, then take their defaults *silently*: ``rope_theta`` becomes 10,000 and
every position is rotated wrongly. The old names are written beside the new ones; both versions read the result alike.

Why: the values are derived from what transformers 5 wrote, so the two can never disagree. Architectures that only
version 5 knows get the same keys, which nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAST_CLASS = "PreTrainedTokenizerFast"
"""The class that reads ``tokenizer.json`` as it stands, in both versions."""
ONLY_5 = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend")
"""Tokenizer classes that version 4 does not have."""
ONLY_HERE = ("backend", "is_local", "local_files_only")
"""What transformers 5 notes about how a tokenizer was loaded; it means nothing elsewhere."""
OLD_NESTED = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
}
"""Models of version 4 with other rotary settings for sliding layers: names of the base of full and of sliding ones."""
BEGIN_AND_END = ("add_bos_token", "add_eos_token")
"""What transformers 5 leaves out when it saves a tokenizer, although both versions read it."""


def make_config_readable(folder: Path) -> None:
    """Add the names of transformers 4 to a saved config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    readable = _with_old_names(config)
    if readable != config:
        path.write_text(json.dumps(readable, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def make_tokenizer_readable(folder: Path, loaded: Mapping[str, Any]) -> None:
    """Name a tokenizer's class and extra tokens in a saved tokenizer_config.json as both versions read them.

    Args:
        folder: Where it was saved.
        loaded: What the tokenizer was loaded with: transformers' `init_kwargs`.
    """
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ONLY_HERE:
        config.pop(name, None)
    if config.get("tokenizer_class") in ONLY_5 and (folder / "tokenizer.json").exists():
        config["tokenizer_class"] = FAST_CLASS
    if isinstance(config.get("extra_special_tokens"), list):
        # Version 4 expects a mapping under this name, and a list under the other.
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    config |= {name: loaded[name] for name in BEGIN_AND_END if loaded.get(name) is not None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _with_old_names(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the old names added, in its parts for text and images too."""
    named = {key: _with_old_names(value) if _is_part(key, value) else value for key, value in section.items()}
    if "dtype" in named:
        named["torch_dtype"] = named["dtype"]
    rope = named.get("rope_parameters")
    if isinstance(rope, dict):
        named |= _old_rope(rope, str(named.get("model_type")))
    return named


def _is_part(key: str, value: Any) -> bool:
    return isinstance(value, dict) and key.endswith("_config")


def _old_rope(rope: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return rotary settings by their names in transformers 4.

    *Source*: `RotaryEmbeddingConfigMixin.convert_rope_params_to_dict` of transformers 5 and the configurations of its
    models, which read these names.

    Example:
        >>> _old_rope({"rope_type": "default", "rope_theta": 500000.0}, "llama")
        {'rope_theta': 500000.0, 'rope_scaling': None}
        >>> _old_rope({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}, "gpt_neox")
        {'rotary_emb_base': 10000.0, 'rope_scaling': None, 'rotary_pct': 0.25}
    """
    nested = [name for name, value in rope.items() if isinstance(value, dict)]
    if nested:
        return _old_nested_rope(rope, model_type)
    if "rope_theta" not in rope:
        return {}
    is_neox = model_type.startswith("gpt_neox")
    rest = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    is_default = rest.get("rope_type", "default") == "default" and set(rest) <= {"rope_type"}
    old = {
        "rotary_emb_base" if is_neox else "rope_theta": rope["rope_theta"],
        "rope_scaling": None if is_default else rest,
    }
    if "partial_rotary_factor" in rope:
        old["rotary_pct" if is_neox else "partial_rotary_factor"] = rope["partial_rotary_factor"]
    return old


def _old_nested_rope(rope: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return the old names of rotary settings that differ between kinds of layers, for models that version 4 knows."""
    whole, local = rope.get("full_attention"), rope.get("sliding_attention")
    names = OLD_NESTED.get(model_type)
    if names is None or not isinstance(whole, dict) or not isinstance(local, dict):
        return {}
    old = _old_rope(whole, model_type)
    if "rope_theta" not in old:
        return {}
    return {"rope_scaling": old["rope_scaling"], names[0]: old["rope_theta"], names[1]: local.get("rope_theta")}
