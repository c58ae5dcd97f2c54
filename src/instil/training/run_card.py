"""The run card: what is about to happen, said before it happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from instil.training.preflight import Studied
from instil.training.records.environment import describe_device
from instil.training.setup import Assembled
from instil.units import counted, short_count


def run_card(studied: Studied, assembled: Assembled, folder: Path) -> list[str]:
    """Give the run card, a line each.

    Args:
        studied: What is known of the run.
        assembled: The model, ready to learn.
        folder: The run folder.
    """
    recipe, order, ledger = studied.recipe, studied.order, studied.prepared.ledger
    share = assembled.num_trained / max(1, assembled.num_parameters)
    what = "every weight" if recipe.adapter.kind == "none" else f"LoRA, rank {recipe.adapter.rank}"
    rows = [
        ("run", str(folder)),
        ("model", f"{recipe.model.name} ({short_count(assembled.num_parameters)} parameters)"),
        ("trains", f"{what}: {short_count(assembled.num_trained)} parameters ({share:.1%})"),
        ("template", f"{studied.template}; stops on {', '.join(studied.chat.stop_tokens)}"),
        ("data", f"{ledger.rows_trained:,} of {ledger.rows_in:,} rows, {ledger.trained_tokens:,} trained tokens of "
                 f"{ledger.tokens:,} an epoch; {counted(len(studied.prepared.heldout), 'example')} held out"),
        ("steps", f"{order.num_steps:,} of {counted(order.batch_size, 'example')}, {order.steps_per_epoch:,} an epoch"),
        ("optimizer", f"{recipe.optimizer.name}, learning rate {recipe.optimizer.lr:g}, {recipe.optimizer.schedule}"),
        ("precision", studied.precision.words),
        ("processes", _processes(assembled)),
        ("device", describe_device(assembled.learner.ranks.device)),
        ("attention", assembled.kernel),
        ("memory", assembled.fit.verdict),
    ]  # fmt: skip
    return [*_aligned(rows), *(f"note       {note}" for note in (*studied.notes, *assembled.notes))]


def _processes(assembled: Assembled) -> str:
    size = assembled.learner.ranks.size
    return "1" if size == 1 else f"{size}, {'sharded' if assembled.learner.sharded else 'replicated'}"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{name:<10} {text}" for name, text in rows]
