"""``instil plan``: show what a recipe would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from instil.cli.settings import Overrides, load_recipe, typed


def plan(recipe: Path, *, settings: Overrides = None) -> None:
    """Show what a recipe would do: parameters, memory by kind, steps, tokens, time.

    Loads no weights and trains nothing. Prepares the data as train does; train then uses the prepared data. Every
    setting of the recipe is an option, as for train.

    Args:
        recipe: The recipe, a YAML file.
        settings: Settings that replace the recipe's.
    """
    from instil.model.loading import choose_device
    from instil.run_warning import print_line
    from instil.training.disk_space import disk_warnings
    from instil.training.duration import estimate_seconds
    from instil.training.memory.usage import free_memory
    from instil.training.preflight import run_preflight
    from instil.training.processes.ranks import Ranks
    from instil.training.replicate_or_shard import choose_mode
    from instil.units import counted, duration, short_count

    requested = load_recipe(recipe, typed(settings))
    device = choose_device(requested.device)
    preflight = run_preflight(requested, Ranks(0, 1, device), say=print, loads=False)
    order, ledger = preflight.order, preflight.prepared.ledger
    sizes, processes = preflight.sizes(), preflight.recipe.parallel.processes
    mode = choose_mode(
        preflight, sizes, device=device, free=free_memory(device, sharing=processes), num_ranks=processes
    )
    passes = order.num_seen / order.num_examples
    tokens, trained = round(ledger.tokens * passes), round(ledger.trained_tokens * passes)
    seconds = estimate_seconds(sizes, preflight.precision, tokens=tokens, trained=trained, device=device)
    if device.type == "cuda":  # on a CPU the processes share its cores, so more of them save no time
        seconds /= processes
    disk = preflight.disk(sizes)
    print()
    for line in _columns(
        [
            ("parameters", f"{short_count(sizes.parameters)}, of which {short_count(sizes.trained)} train"),
            ("precision", preflight.precision.words),
            ("template", preflight.template),
            ("steps", f"{order.num_steps:,} of {counted(order.batch_size, 'example')} ({passes:.2f} passes)"),
            ("tokens", f"{tokens:,}, of which {trained:,} are trained"),
            ("processes", mode.words),
            ("disk", disk.words),
            ("time", f"about {duration(seconds)} of training on this device"),
        ]
    ):
        print(line)
    for line in (*mode.fit.memory.lines(), *_columns([("verdict", mode.fit.verdict)])):
        print(line)
    for note in preflight.notes:
        print(f"note         {note}")
    for warning in (*preflight.warnings, *disk_warnings(disk, Path(preflight.recipe.output))):
        print_line(f"warning      {warning.text}")


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{name:<12} {text}" for name, text in rows]
