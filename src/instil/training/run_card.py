"""The run card: what a run is about to do, printed before it does it."""

from __future__ import annotations

from pathlib import Path

from instil.run_warning import PREFIX
from instil.training.disk_space import disk_warnings
from instil.training.preflight import Preflight
from instil.training.records.environment import describe_device
from instil.training.setup import Assembled
from instil.units import counted, short_count


def run_card(preflight: Preflight, assembled: Assembled, folder: Path) -> list[str]:
    """Return the run card, one string a line.

    Args:
        preflight: What is known of the run.
        assembled: The model, ready to train.
        folder: The run folder.
    """
    recipe, order, ledger = preflight.recipe, preflight.order, preflight.prepared.ledger
    share = assembled.num_trained / max(1, assembled.num_parameters)
    what = "every weight" if recipe.adapter.kind == "none" else f"LoRA, rank {recipe.adapter.rank}"
    heldout = counted(len(preflight.prepared.heldout), "example")
    disk = disk_warnings(preflight.disk(assembled.sizes), folder)
    rows = [
        ("run", str(folder)),
        ("model", f"{recipe.model.name} ({short_count(assembled.num_parameters)} parameters)"),
        ("trains", f"{what}: {short_count(assembled.num_trained)} parameters ({share:.1%})"),
        ("template", f"{preflight.template}; stops on {', '.join(preflight.chat.stop_tokens)}"),
        ("data", f"{ledger.rows_trained:,} of {ledger.rows_in:,} rows, {ledger.trained_tokens:,} trained tokens of "
                 f"{ledger.tokens:,} an epoch; {heldout} held out"),
        ("steps", f"{order.num_steps:,} of {counted(order.batch_size, 'example')}, {order.steps_per_epoch:,} an epoch"),
        ("optimizer", f"{recipe.optimizer.name}, learning rate {recipe.optimizer.lr:g}, {recipe.optimizer.schedule}"),
        ("rate", f"{recipe.optimizer.lr:g}, {preflight.rate_words}"),
        ("precision", preflight.precision.words),
        ("processes", _processes(assembled)),
        ("device", describe_device(assembled.learner.ranks.device)),
        ("attention", assembled.kernel),
        ("memory", assembled.fit.verdict),
        *(("note", note) for note in (*preflight.notes, *assembled.notes)),
        *((PREFIX, warning.text) for warning in (*preflight.warnings, *disk)),
    ]  # fmt: skip
    return [f"{name:<10} {text}" for name, text in rows]


def _processes(assembled: Assembled) -> str:
    size = assembled.learner.ranks.size
    return "1" if size == 1 else f"{size}, {'sharded' if assembled.learner.sharded else 'replicated'}"
