"""A search by Optuna: it proposes the values of each trial from the results of the trials before it.

Why: trials are stored in SQLite, beside the runs. A transaction is there whole or not at all, so a kill at any moment
leaves the finished trials. Optuna's journal file would keep a lock, and a half line that later reads refuse.

Why: each trial has a sampler of its own, seeded by the recipe's seed and the trial's number. So a search that was
killed proposes what an uninterrupted one proposes; Optuna does not store a sampler's state.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.errors import MissingPackageError, RunError
from instil.sweeps.space import Range, Space

STUDY = "sweep"
MOST_RANDOM = 10
"""Trials at random before the first proposal, in a long search; Optuna's own number."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A proposed trial.

    Attributes:
        number: Its number, from 0.
        settings: The proposed values, by dotted name.
    """

    number: int
    settings: Mapping[str, Any]


def check_installed() -> None:
    """Raise if Optuna is not installed.

    Raises:
        MissingPackageError: With the command that installs it.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(error.name or "optuna", needed_for="sweep.search: optuna", extra="search") from None


def random_trials(trials: int) -> int:
    """Return how many trials are drawn at random: a third, at most ten.

    Example:
        >>> random_trials(1), random_trials(12), random_trials(100)
        (1, 4, 10)
    """
    return min(MOST_RANDOM, max(1, trials // 3))


class Search:
    """The trials of a search, stored in a file."""

    def __init__(self, path: Path, space: Space, *, seed: int) -> None:
        """Open the search in a file, or begin one.

        Args:
            path: The SQLite file.
            space: What is searched.
            seed: Seed of the proposals.

        Raises:
            RunError: If the file is no search.
        """
        import optuna
        from sqlalchemy.engine import URL

        assert space.trials is not None
        self._optuna = optuna
        self._space = space
        self._seed = seed
        # A path may hold a question mark, which would end it in a URL that is written by hand.
        url = URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)
        with self._quiet(), self._readable(path):
            self._study = optuna.create_study(
                storage=url,
                study_name=STUDY,
                load_if_exists=True,
                direction="minimize" if space.direction == "min" else "maximize",
            )

    def ended(self) -> int:
        """Return how many trials have ended, failed ones included."""
        return sum(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))

    def next(self) -> Trial | None:
        """Return the trial that was cut, else a new one; None when all have ended."""
        running = self._optuna.trial.TrialState.RUNNING
        with self._quiet():
            cut = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state == running]
            if not cut and self.ended() >= (self._space.trials or 0):
                return None
            number = cut[0].number if cut else len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=(self._seed + number) % 2**32,
                n_startup_trials=random_trials(self._space.trials or 1),
                constant_liar=False,  # one trial runs at a time
            )
            # What of a cut trial is stored already is given back; the rest is proposed as it would have been.
            trial = self._optuna.trial.Trial(self._study, cut[0]._trial_id) if cut else self._study.ask()
            return Trial(trial.number, dict(self._proposed(trial)))

    def finish(self, trial: Trial, value: float | None) -> None:
        """Store the result of a trial; None if it failed."""
        failed = self._optuna.trial.TrialState.FAIL
        with self._quiet():
            if value is None:
                self._study.tell(trial.number, state=failed)
            else:
                self._study.tell(trial.number, value)

    def _proposed(self, trial: Any) -> Iterator[tuple[str, Any]]:
        for name, values in self._space.values.items():
            if isinstance(values, Range) and values.whole:
                yield name, trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
            elif isinstance(values, Range):
                yield name, trial.suggest_float(name, values.low, values.high, log=values.log)
            else:
                yield name, _chosen(trial, name, values)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep Optuna's log of every trial off the screen; what it logs belongs to its own users."""
        logging = self._optuna.logging
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(before)

    @contextlib.contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        import sqlalchemy.exc

        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, self._optuna.exceptions.OptunaError, RuntimeError) as error:
            raise RunError(
                f"{path}: cannot be used ({str(error).splitlines()[0]:.120}). Expected the search that was begun here. "
                "Restore the file, or start the sweep in another output."
            ) from None


def _chosen(trial: Any, name: str, values: Sequence[Any]) -> Any:
    """Return one of some values. Optuna stores plain values only, so it chooses among their texts."""
    texts = [json.dumps(value, sort_keys=True, default=str) for value in values]
    return values[texts.index(trial.suggest_categorical(name, texts))]
