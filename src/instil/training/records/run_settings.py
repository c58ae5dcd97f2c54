"""The settings in which runs differ: all of them, and the few that were chosen and change a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from instil.errors import RunError
from instil.recipe import Recipe, Source
from instil.training.records.run_folder import existing_run

_CHANGE_NO_RESULT = (
    "output", "threads", "device", "data.workers", "data.cluster", "data.store", "checkpoint.every", "checkpoint.keep_last",
    "checkpoint.keep_best", "checkpoint.mirror", "evaluate.every", "evaluate.at_start", "evaluate.samples", "evaluate.max_new_tokens",
    "evaluate.max_prompts", "evaluate.tasks", "parallel", "tracking", "training.micro_batch_tokens",
    "training.gradient_checkpointing",
)  # fmt: skip
"""Settings, or groups of them, that a list of runs leaves out: the trained model does not depend on them."""
_FIRST = (
    "model.name", "adapter.kind", "adapter.rank", "optimizer.lr", "training.epochs", "training.max_steps",
    "training.batch_size", "data.sources", "optimizer.name", "optimizer.schedule", "data.max_tokens", "data.train_on",
    "training.seed",
)  # fmt: skip
"""Settings that people look for first."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C, where libyaml is there: ten times as fast, which counts in a list of 500 runs."""


def settings_of(folder: Path) -> dict[str, Any]:
    """Read a run's resolved settings under dotted names.

    Raises:
        RunError: If there is no recipe, or it is damaged.
    """
    path = existing_run(folder).recipe
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        settings = None
    if not isinstance(settings, Mapping):
        raise RunError(f"{path}: damaged. Expected the run's recipe as YAML. Fix it, or name another run.")
    return dict(_leaves(settings))


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        # A mapping such as data.columns is one setting; an empty one has no leaves.
        if isinstance(value, Mapping) and value and not above.count("."):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def default_settings() -> dict[str, Any]:
    """Return the default of every setting under dotted names."""
    return dict(_leaves(Recipe().model_dump(mode="json")))


def differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return each run's values of the settings that differ between the runs, without `output`."""
    return _differing([settings_of(folder) for folder in folders])


def _differing(all_settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for settings in all_settings for name in settings if name != "output")
    differing = [
        name for name in names if any(settings.get(name) != all_settings[0].get(name) for settings in all_settings)
    ]
    return [{name: shorten_sources(settings.get(name)) for name in differing} for settings in all_settings]


def chosen_differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return of `differences` what was chosen and changes a result, the best known settings first.

    A setting that at most one run has, because others were made by another version, was not chosen.
    """
    return chosen_among([settings_of(folder) for folder in folders])


def chosen_among(all_settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the same of settings that have been read."""
    defaults = default_settings()
    found = []
    for settings, own in zip(all_settings, _differing(all_settings), strict=True):
        names = sorted(own, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
        found.append({name: own[name] for name in names if name in settings and _matters(name, settings)})
    varied = {name for own in found for name, value in own.items() if value != defaults.get(name)}
    return [{name: value for name, value in own.items() if name in varied} for own in found]


def _matters(name: str, settings: Mapping[str, Any]) -> bool:
    """Return False for a setting that changes no result, or belongs to an adapter that the run does not have."""
    if any(name == left_out or name.startswith(f"{left_out}.") for left_out in _CHANGE_NO_RESULT):
        return False
    # The fixed number of steps decides the length where it is set.
    if name == "training.epochs" and settings.get("training.max_steps") is not None:
        return False
    return not (name.startswith("adapter.") and name != "adapter.kind" and settings.get("adapter.kind") == "none")


def shorten_sources(value: Any) -> Any:
    """Shorten a list of sources to their paths and the settings that differ from the defaults.

    Other values are returned unchanged.
    """
    # Settings arrive as JSON values: sources are a list of objects that have a path.
    if not (isinstance(value, list) and value and all(isinstance(item, dict) and "path" in item for item in value)):
        return value
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Source.model_fields.items()}
    short = [
        {name: setting for name, setting in item.items() if name not in defaults or setting != defaults[name]}
        for item in value
    ]
    return [item["path"] if len(item) == 1 else item for item in short]


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings for one line: short names and values.

    Example:
        >>> in_words({"optimizer.lr": 0.0003, "adapter.kind": "lora", "data.sources": ["data/gsm8k.jsonl"]})
        'lr 3e-4, adapter lora, data gsm8k.jsonl'
    """
    return ", ".join(f"{_short_name(name)} {short_value(value)}" for name, value in settings.items())


def _short_name(name: str) -> str:
    group, _, last = name.rpartition(".")
    if name == "data.sources":
        return "data"
    return group if last in ("name", "kind", "every") else last


def short_value(value: Any, most: int = 24) -> str:
    """Return a setting's value as a person would write it, the end of a long one.

    Example:
        >>> short_value(0.0003), short_value(3), short_value(True), short_value(None), short_value(1.5)
        ('3e-4', '3', 'yes', 'none', '1.5')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, float):
        return _power(value) if 0 < abs(value) < 1e-2 else f"{value:g}"
    if isinstance(value, list) and value:
        text = "+".join(_source(item) for item in value)
    else:
        text = str(value).rstrip("/").rpartition("/")[2] if isinstance(value, str) else str(value)
    return text if len(text) <= most else "…" + text[1 - most :]


def _power(value: float) -> str:
    digits, _, power = f"{value:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _source(item: Any) -> str:
    path = item.get("path") if isinstance(item, Mapping) else item
    return str(path).rstrip("/").rpartition("/")[2]
