"""Write what a finished run leaves: the model folder, the adapter, ``results.json``.

The last part of a run. A run with adapters writes both: ``adapter/`` as peft does, and ``model/`` with the adapter
merged.

Why: nothing is merged into a quantised base. Its 16-bit original is loaded anew for that. A base that was published
quantised has no original; its weights are unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instil.conversation import Example
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.files import write_json_atomic
from instil.model.adapters.merge import merge_in_place
from instil.model.adapters.saved import open_adapter
from instil.model.chat_tokens import TokenChange
from instil.model.folder.location import ModelLocation
from instil.model.folder.saving import save_model_folder
from instil.model.loading import load_model
from instil.model.new_tokens import fit_embeddings
from instil.model.quantization import is_quantized, unpack_weights
from instil.recipe import ModelSettings
from instil.run_warning import RunWarning
from instil.training.checkpoints.checkpoint import Progress
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths
from instil.training.records.written_model import check_written, measure_trained
from instil.units import loss_words


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """The comparison of the trained model with the written one.

    Attributes:
        trained_loss: The trained model's loss on a few examples.
        written_loss: The written model's, or None if it was not measured.
        words: The comparison in words.
    """

    trained_loss: float
    written_loss: float | None
    words: str


def save_trained(
    model: Any,
    chat: ChatTokenizer,
    paths: RunPaths,
    *,
    settings: ModelSettings,
    seed: int,
    location: ModelLocation,
    change: TokenChange,
    examples: Sequence[Example],
) -> WrittenModel:
    """Write ``model/``, and ``adapter/`` if the run trained one.

    Args:
        model: The trained model. An adapter is merged into it, so it cannot be used afterwards.
        chat: Its tokenizer and template.
        paths: The run folder.
        settings: The recipe's `model`.
        seed: The run's seed.
        location: Where the base is.
        change: What was changed in the tokenizer.
        examples: What trained and written model are compared on.

    Raises:
        TrainingError: If the written model is not what was trained.
    """
    if hasattr(model, "peft_config"):
        if location.kind == "hub":
            for config in model.peft_config.values():
                config.revision = settings.revision
        save_model_folder(model, chat, paths.adapter, base=location.base_name)
        if is_quantized(model):
            original = settings.model_copy(update={"quantize": "none"})
            model = load_model(original, precision="pure_bf16", location=location, seed=seed)
            if is_quantized(model):  # the base was published quantised: there is no other original
                model = unpack_weights(model, torch.bfloat16)
            fit_embeddings(model, chat.tokenizer, change, stop_ids=chat.stop_ids, seed=seed)
            model = open_adapter(model, paths.adapter, trains=False)
        trained = measure_trained(model, examples)
        model = merge_in_place(model)
    else:
        trained = measure_trained(model, examples)
    save_model_folder(model, chat, paths.model)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    loss, words = check_written(paths.model, trained, trust_remote_code=settings.trust_remote_code)
    return WrittenModel(trained.loss, loss, words)


def write_results(
    paths: RunPaths,
    progress: Progress,
    *,
    num_examples: int,
    num_seen: int,
    seconds: float,
    memory: Mapping[str, float],
    written: WrittenModel,
    warnings: Sequence[RunWarning] = (),
) -> str | None:
    """Write ``results.json``. It comes last: a run folder that holds it is complete.

    Args:
        paths: The run folder.
        progress: The end of the run.
        num_examples: Training examples in the set.
        num_seen: Examples that the steps took, repetition counted.
        seconds: Seconds of this process, evaluations and checkpoints included.
        memory: Planned and measured memory, in MB.
        written: The comparison of the trained model with the written one.
        warnings: The warnings of the run card.

    Returns:
        The course of the held-out loss in words, or None if nothing was held out.
    """
    lines = [line for line in read_metrics(paths.metrics) if "heldout_loss" in line]
    heldout = [line["heldout_loss"] for line in lines]
    won = [line["heldout_accuracy"] for line in lines if "heldout_accuracy" in line]
    results: dict[str, Any] = {
        "steps": progress.step,
        "loss": progress.last_loss,
        "heldout_loss": heldout[-1] if heldout else None,
        **({"heldout_accuracy": won[-1]} if won else {}),
        "best_heldout_loss": progress.best_loss,
        "best_step": progress.best_step,
        "trained_model_loss": written.trained_loss,
        "written_model_loss": written.written_loss,
        "examples": num_examples,
        "examples_seen": num_seen,
        "tokens": progress.tokens,
        "trained_tokens": progress.trained_tokens,
        "steps_left_out": progress.skipped,
        "training_seconds": round(progress.seconds, 3),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
        **memory,
        "warnings": [warning.to_json() for warning in warnings],
    }
    write_json_atomic(paths.results, results)
    return _course(heldout, progress) if heldout else None


def _course(losses: Sequence[float], progress: Progress) -> str:
    """Return first, last and lowest held-out loss in words."""
    first = f"{loss_words(losses[0])} when first measured, " if len(losses) > 1 else ""
    best = progress.best_loss
    lowest = "" if best is None or best == losses[-1] else f"; lowest {loss_words(best)} at step {progress.best_step}"
    return f"loss {first}{loss_words(losses[-1])} at the end{lowest}"
