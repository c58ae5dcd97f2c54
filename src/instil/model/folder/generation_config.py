"""A model folder's generation_config: the tokens it stops on, and what it becomes when the model is saved.

Published models often stop on more tokens than their chat template prints (Llama 3.1's ``<|eom_id|>``, Qwen's
``<|endoftext|>``). Those are read here, so that serving stops on them and a run keeps them.

Why: only control tokens count. An eos id that is an ordinary token of the vocabulary is a default that nobody set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instil.errors import ModelError
from instil.model.folder.file_checks import read_json
from instil.model.folder.location import ModelLocation
from instil.model.underlying import underlying

GENERATION_CONFIG = "generation_config.json"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that count only if answers are sampled."""
PENALTIES = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
}
"""Settings that also change answers of the likeliest tokens, each with the value that changes nothing."""


def published_stop_ids(location: ModelLocation) -> tuple[int, ...]:
    """Return the ids that a model folder's generation_config stops on, in its order; an adapter's own come first.

    A folder without that file has the ids of its config.json, as in transformers.

    Raises:
        ModelError: If a file is damaged, or names something else than ids.
    """
    folders = [folder for folder in (location.adapter_folder, location.folder) if folder is not None]
    return tuple(dict.fromkeys(stop_id for folder in folders for stop_id in _stop_ids(folder)))


def _stop_ids(folder: Path) -> tuple[int, ...]:
    for name in (GENERATION_CONFIG, "config.json"):
        path = folder / name
        if path.exists():
            return _ids_in(path)
    return ()


def _ids_in(path: Path) -> tuple[int, ...]:
    """Return the eos ids of one file."""
    value = read_json(path).get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(stop_id, int) and not isinstance(stop_id, bool) for stop_id in ids):
        raise ModelError(
            f"{path}: eos_token_id is {json.dumps(value)}. Expected a token id or a list of them. Correct the file."
        )
    return tuple(stop_id for stop_id in ids if stop_id >= 0)


def set_stop_ids(model: Any, stop_ids: Sequence[int], *, pad_id: int | None) -> tuple[str, ...]:
    """Set the stop ids and the padding id in a model's generation_config; its config gets the first stop id.

    transformers does not save sampling settings beside ``do_sample: false``. An explicit false stays, and the settings
    go. If do_sample is missing, the settings show that sampling was meant, and it becomes true.

    Returns:
        What was changed, one line each, for the user.
    """
    inner = underlying(model)
    settings, config = inner.generation_config, inner.config.get_text_config()
    before, after = settings.eos_token_id, list(stop_ids) if len(stop_ids) != 1 else stop_ids[0]
    settings.eos_token_id, config.eos_token_id = after, int(stop_ids[0])
    changes: tuple[str, ...] = (
        () if before in (None, after) else (f"{GENERATION_CONFIG}: eos_token_id {before} becomes {after}",)
    )
    if pad_id is not None:
        settings.pad_token_id = config.pad_token_id = pad_id
    try:
        settings.validate(strict=True)
    except ValueError:
        changes += _make_consistent(settings)
    return (*changes, *_penalties(settings))


def _penalties(settings: Any) -> tuple[str, ...]:
    """Return a line about penalties, which stay: the base's authors chose them, and this package has none by default."""
    kept = [
        f"{name} {value:g}"
        for name, neutral in PENALTIES.items()
        if (value := getattr(settings, name, None)) not in (None, neutral)
    ]
    if not kept:
        return ()
    return (
        f"{GENERATION_CONFIG}: it has {', '.join(kept)}, which transformers and vLLM apply to every answer. Here answers "
        "have no penalty unless one is set",
    )


def _make_consistent(settings: Any) -> tuple[str, ...]:
    """Make sampling settings such that transformers saves them; see `set_stop_ids`."""
    if settings.do_sample is None:
        settings.do_sample = True
        return (
            f"{GENERATION_CONFIG}: it has sampling settings and no do_sample. The tuned model's has do_sample: true",
        )
    removed = [f"{name} {value}" for name in SAMPLING if (value := getattr(settings, name, None)) is not None]
    for name in SAMPLING:
        setattr(settings, name, None)
    return (
        f"{GENERATION_CONFIG}: it has do_sample: false, so its {', '.join(removed)} had no effect. The tuned model's "
        "is without them",
    )
