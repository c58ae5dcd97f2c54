"""The end of a run, for people: what it left, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instil.recipe import Recipe
from instil.screen import sparkline
from instil.training.records.metrics import read_metrics
from instil.training.records.run_folder import RunPaths
from instil.units import duration, loss_words

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


class CardLine(str):
    """A line of a run's card: where several runs follow each other, one that stood on an earlier card is left out."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long a run took.

    Attributes:
        in_steps: Seconds in all steps of the run, those before a resume included.
        here: Seconds of this process, evaluations and checkpoints included.
        resumed: Whether the run was resumed, so that these are not the seconds of the whole run.
    """

    in_steps: float
    here: float
    resumed: bool

    @property
    def words(self) -> str:
        """The time in words.

        Example:
            >>> RunTime(190, 200, False).words
            '3m10s in steps, 3m20s with evaluations and checkpoints'
            >>> RunTime(190, 42, True).words
            '3m10s in steps of the whole run; since it was resumed 42s with evaluations and checkpoints'
        """
        steps, here = f"{duration(self.in_steps)} in steps", f"{duration(self.here)} with evaluations and checkpoints"
        return f"{steps} of the whole run; since it was resumed {here}" if self.resumed else f"{steps}, {here}"


def closing_block(
    paths: RunPaths, recipe: Recipe, *, written: str, heldout: str | None, time: RunTime
) -> list[CardGroup]:
    """Return what stands at the end of a run: its results, its files, and the commands that use them.

    Args:
        paths: The run folder.
        recipe: The run's recipe.
        written: The comparison of the written model with the trained one, in words.
        heldout: The course of the held-out loss in words, or None.
        time: How long the run took.
    """
    lines = read_metrics(paths.metrics)
    losses = [line["loss"] for line in lines if "loss" in line]
    won = [line["heldout_accuracy"] for line in lines if "heldout_accuracy" in line]
    done = [
        ("written", written.removeprefix("written and ")),
        *([("adapter", str(paths.adapter))] if paths.adapter.is_dir() else []),
        *([("loss", _course(losses))] if losses else []),
        *([("held-out", heldout)] if heldout else []),
        *([("won", f"{won[-1]:.0%} of held-out pairs, {won[0]:.0%} when first measured")] if won else []),
        ("plot", str(paths.picture)),
        ("time", time.words),
    ]
    return [CardGroup(f"done: {paths.model}", tuple(done)), next_commands(paths.folder, recipe)]


def next_commands(run: Path, recipe: Recipe) -> CardGroup:
    """Return the commands that use a finished run.

    Args:
        run: The run folder.
        recipe: The run's recipe.
    """
    against = f" --against {recipe.model.name}" if recipe.model.initialise == "pretrained" else ""
    following = [
        ("talk", f"instil chat {run}"),
        ("measure", f"instil evaluate {run} --data ROWS{against}"),
        ("report", f"instil report {run}"),
        ("export", f"instil export {run} FOLDER"),
    ]
    return CardGroup("Next", tuple(following))


def _course(losses: list[float]) -> str:
    """Return first and last training loss, and the curve between them.

    Example:
        >>> _course([8.0, 4.0, 2.0])
        '8.0000 at the first step, 2.0000 at the last  █▃▁'
    """
    first, last = (loss_words(loss) for loss in (losses[0], losses[-1]))
    return f"{first} at the first step, {last} at the last  {sparkline(losses, width=SPARKLINE_WIDTH)}".rstrip()
