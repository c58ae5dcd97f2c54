"""``instil plan``: what a recipe would do, before it does it."""

from __future__ import annotations

from pathlib import Path

from instil.cli.settings import Overrides, typed


def plan(recipe: Path, *, settings: Overrides = None) -> None:
    """Say what a recipe would do: parameters, memory by kind, steps, tokens, time. Loads no weight and trains nothing.

    Args:
        recipe: The recipe, a YAML file.
        settings: Settings that win over the recipe's.
    """
    from instil.model.loading import choose_device
    from instil.recipe import Recipe
    from instil.training.assembly import study
    from instil.training.card import count
    from instil.training.planning import estimate_seconds, find_fit, free_memory, plan_lines, sizes_of_recipe
    from instil.training.ranks import Ranks
    from instil.training.telemetry import minutes

    asked = Recipe.load(recipe, typed(settings))
    device = choose_device(asked.device)
    studied = study(asked, Ranks(0, 1, device), say=print)
    order, store, ledger = studied.order, studied.prepared.train, studied.prepared.ledger
    sizes = sizes_of_recipe(
        studied.recipe, studied.location, studied.precision, trained_ids=range(len(studied.change.added))
    )
    parallel = studied.recipe.parallel
    fit = find_fit(
        studied.recipe,
        sizes,
        studied.precision,
        store=store,
        order=order,
        device=device,
        free=free_memory(device, sharing=parallel.processes),
        num_ranks=parallel.processes,
        sharded=parallel.mode == "sharded",
    )
    passes = order.num_seen / order.num_examples
    tokens, trained = round(ledger.tokens * passes), round(ledger.trained_tokens * passes)
    seconds = estimate_seconds(sizes, studied.precision, tokens=tokens, trained=trained, device=device)
    print()
    for line in plan_lines(
        [
            ("parameters", f"{count(sizes.parameters)}, of which {count(sizes.trained)} train"),
            ("precision", studied.precision.words),
            ("template", studied.template),
            ("steps", f"{order.num_steps:,} of {order.batch_size} examples ({passes:.2f} passes)"),
            ("tokens", f"{tokens:,}, of which {trained:,} are trained"),
            ("time", f"about {minutes(seconds)} of training on this device"),
        ]
    ):
        print(line)
    for line in (*fit.memory.lines(), *plan_lines([("verdict", fit.verdict)])):
        print(line)
    for note in studied.notes:
        print(f"note         {note}")
