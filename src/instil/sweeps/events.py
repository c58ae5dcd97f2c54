"""What happens in a sweep, one record each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from instil.sweeps.plan import SweepPlan
from instil.sweeps.record import Sweep, SweepRun
from instil.sweeps.space import Space


@dataclass(frozen=True, slots=True)
class Planned:
    """A new sweep has been checked; its runs follow.

    Attributes:
        plan: What it will do.
    """

    plan: SweepPlan


@dataclass(frozen=True, slots=True)
class RunBegins:
    """A run begins, or goes on.

    Attributes:
        run: The run.
        number: Its number, from 1.
        total: Number of runs of the sweep.
    """

    run: SweepRun
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class RunEnds:
    """A run has ended: finished, failed, or stopped on request.

    Attributes:
        run: The run with its results.
    """

    run: SweepRun


@dataclass(frozen=True, slots=True)
class SweepEnds:
    """The sweep has ended, or was stopped on request. The last record.

    Attributes:
        sweep: The sweep with all results.
        space: What it varied.
        has_picture: Whether ``losses.png`` was drawn.
    """

    sweep: Sweep
    space: Space
    has_picture: bool


SweepEvent: TypeAlias = Planned | RunBegins | RunEnds | SweepEnds
