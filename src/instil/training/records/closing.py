"""The end of a run, for people: what it left, and what to do next."""

from __future__ import annotations

import math
from dataclasses import dataclass

from instil.recipe import Recipe
from instil.screen import sparkline
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths
from instil.units import duration

SPARKLINE_WIDTH = 24
NAME_WIDTH = 10
"""Columns of the names, in all groups of a run's card and at its end."""


@dataclass(frozen=True, slots=True)
class CardGroup:
    """Facts under one heading.

    Attributes:
        title: The heading; empty for none.
        facts: Names and values.
    """

    title: str
    facts: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the facts as lines, values aligned over all groups.

        Example:
            >>> CardGroup("Next", (("talk", "instil chat runs/a"),)).lines()
            ['talk       instil chat runs/a']
        """
        return [f"{name:<{NAME_WIDTH}} {value}" for name, value in self.facts]


def closing_block(
    paths: RunPaths, recipe: Recipe, *, written: str, heldout: str | None, seconds: float
) -> list[CardGroup]:
    """Return what stands at the end of a run: its results, its files, and the commands that use them.

    Args:
        paths: The run folder.
        recipe: The run's recipe.
        written: The comparison of the written model with the trained one, in words.
        heldout: The course of the held-out loss in words, or None.
        seconds: Seconds of this process.
    """
    losses = [line["loss"] for line in read_metrics(paths.metrics) if "loss" in line]
    done = [
        ("written", written.removeprefix("written and ")),
        *([("adapter", str(paths.adapter))] if paths.adapter.is_dir() else []),
        *([("loss", _course(losses))] if losses else []),
        *([("held-out", heldout)] if heldout else []),
        ("plot", str(paths.picture)),
        ("time", duration(seconds)),
    ]
    run = paths.folder
    against = f" --against {recipe.model.name}" if recipe.model.initialise == "pretrained" else ""
    following = [
        ("talk", f"instil chat {run}"),
        ("measure", f"instil evaluate {run} --data ROWS{against}"),
        ("report", f"instil report {run}"),
        ("export", f"instil export {run} FOLDER"),
    ]
    return [CardGroup(f"done: {paths.model}", tuple(done)), CardGroup("Next", tuple(following))]


def _course(losses: list[float]) -> str:
    """Return first and last training loss, and the curve between them.

    Example:
        >>> _course([8.0, 4.0, 2.0])
        '8.0000 at the first step, 2.0000 at the last  █▃▁'
    """
    first, last = (f"{loss:.4f}" if math.isfinite(loss) else str(loss) for loss in (losses[0], losses[-1]))
    return f"{first} at the first step, {last} at the last  {sparkline(losses, width=SPARKLINE_WIDTH)}".rstrip()
