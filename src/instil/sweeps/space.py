"""What a sweep varies: settings with their values or ranges, checked before anything runs.

Why: every value is checked by the recipe itself. A sweep whose last value is wrong stops before its first run.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from instil.errors import RecipeError, nearest
from instil.recipe import Recipe, Settings
from instil.recipe.sweeping import RANGE_KEYS
from instil.setting_aliases import known_elsewhere
from instil.sweeps.names import shown_value

Direction = Literal["min", "max"]
MOST_RUNS = 1000
"""Largest number of runs of a sweep; a larger one is a slip of the pen."""
HELDOUT = "heldout_loss"
LOSSES = (HELDOUT, "loss")
ACCURACY = "heldout_accuracy"
"""Share of held-out pairs that are won, for runs that learn from preferences."""
OF_RUNS = (*LOSSES, ACCURACY)
"""What runs can be compared by besides the figures of tasks."""
OPTIONS = ("best_by", "direction", "search", "trials")
"""Keys of ``sweep:`` that are no settings."""
RATES = frozenset({"optimizer.lr", "optimizer.eps", "optimizer.weight_decay"})
"""Settings whose ranges are logarithmic by default."""
NOT_SWEPT: Mapping[str, str] = {
    "output": "every run of a sweep gets its folder in the sweep's",
    "sweep": "a sweep holds no sweeps",
    "data.store": "the prepared data is shared by the runs",
    "tracking.to": "the trackers are those of all runs",
    "tracking.project": "the trackers are those of all runs",
    "tracking.name": "each run is named after its values",
}
_RANGE = re.compile(r"\s*([-+.\de]+)\s*\.\.\s*([-+.\de]+?)\s*(?::(log|linear))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """A range of numbers, both ends included.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        log: Whether factors count alike, and not differences.
        whole: Whether only whole numbers are allowed.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        return f"{shown_value(self.low)}..{shown_value(self.high)}{' (log)' if self.log else ''}"


Values: TypeAlias = "tuple[Any, ...] | Range"
"""The values that a setting takes, or the range that they are searched in."""


@dataclass(frozen=True, slots=True)
class Space:
    """What a sweep varies, and how its runs are chosen and compared.

    Attributes:
        values: The values or the range of each setting, by its dotted name.
        best_by: What the best run is best in: `heldout_loss`, `loss`, `heldout_accuracy`, a task, or a figure of one.
        direction: Whether less or more of that is better.
        search: The program that proposes values, or None for all combinations.
        trials: Number of runs of a search.
    """

    values: Mapping[str, Values]
    best_by: str = HELDOUT
    direction: Direction = "min"
    search: Literal["optuna"] | None = None
    trials: int | None = None

    @property
    def num_runs(self) -> int:
        """How many runs there will be."""
        if self.trials is not None:
            return self.trials
        return math.prod(len(values) for values in self.values.values() if not isinstance(values, Range))

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield the settings of every run of a sweep without a search; the last setting changes fastest."""
        lists = [values for values in self.values.values() if not isinstance(values, Range)]
        for combination in itertools.product(*lists):
            yield dict(zip(self.values, combination, strict=True))

    def first(self) -> dict[str, Any]:
        """Return one point: each list's first value, each range's lower end."""
        return {
            name: (int(values.low) if values.whole else values.low) if isinstance(values, Range) else values[0]
            for name, values in self.values.items()
        }


def read_space(recipe: Recipe) -> Space:
    """Read what a recipe's ``sweep:`` varies.

    Raises:
        RecipeError: If it names no setting, a setting cannot be swept, a value is wrong or occurs twice, there are too
            many runs, or a range has no search.
    """
    entries = {name: value for name, value in recipe.sweep.items() if name not in OPTIONS}
    for name in entries:
        _check_name(name)
    if not entries:
        raise RecipeError(
            "sweep: found no setting with several values. Expected one such as optimizer.lr: [1e-4, 3e-4]. Add it."
        )
    values = {name: _read_values(recipe, name, value) for name, value in entries.items()}
    options = {name: recipe.sweep[name] for name in OPTIONS if recipe.sweep.get(name) is not None}
    space = _with_options(values, options)
    if space.num_runs > MOST_RUNS:
        raise RecipeError(
            f"sweep: found {space.num_runs:,} runs. Expected at most {MOST_RUNS:,}. Name fewer values, or search: "
            "--search optuna --trials 20."
        )
    return space


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return a recipe without its sweep, with some settings replaced.

    Raises:
        RecipeError: If a value is wrong; the message names the setting.
    """
    values = recipe.model_dump(exclude_unset=True, exclude={"sweep"})
    for name, value in settings.items():
        group, dot, last = name.partition(".")
        if dot:
            values[group] = {**values.get(group, {}), last: value}
        else:
            values[group] = value
    return Recipe.from_mapping(values)


def setting_type(name: str) -> Any:
    """Return the type of a setting by its dotted name, or None if there is no such setting or it is a group.

    Example:
        >>> setting_type("training.shuffle"), setting_type("optimizer")
        (<class 'bool'>, None)
    """
    group: type[Settings] = Recipe
    *groups, last = name.split(".")
    for part in groups:
        field = group.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Settings)):
            return None
        group = field.annotation
    field = group.model_fields.get(last)
    if field is None or (isinstance(field.annotation, type) and issubclass(field.annotation, Settings)):
        return None
    return field.annotation


def plain_kinds(annotation: Any) -> set[Any]:
    """Return the plain types that a setting takes: int, float, bool, str, Literal, list, tuple, dict, NoneType.

    Example:
        >>> plain_kinds(int | None) == {int, type(None)}
        True
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain_kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*(plain_kinds(part) for part in get_args(annotation)))
    return {annotation if origin is None else origin}


def _check_name(name: str) -> None:
    """Raise unless a name is that of a setting that can be swept."""
    if name in NOT_SWEPT:
        raise RecipeError(f"sweep: {name} cannot be swept: {NOT_SWEPT[name]}. Expected another setting. Remove it.")
    if setting_type(name) is not None:
        return
    fields = Recipe.model_fields
    if name in fields:
        raise RecipeError(
            f"sweep: {name} is a group of settings. Expected one of its settings, such as {name}."
            f"{next(iter(_settings_of(name)))}. Name that."
        )
    all_names = [*(f"{group}.{last}" for group in fields for last in _settings_of(group)), *OPTIONS]
    meant = known_elsewhere(name) or nearest(name, all_names)
    raise RecipeError(
        f"sweep: unknown setting {name!r}{meant}. Expected the name of a setting such as optimizer.lr. "
        "See docs/reference/settings.md."
    )


def _settings_of(group: str) -> Sequence[str]:
    kind = Recipe.model_fields[group].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Settings) else []


def _read_values(recipe: Recipe, name: str, value: Any) -> Values:
    """Return the values or the range of a setting."""
    if (span := read_range(name, value)) is not None:
        for end in (span.low, span.high):
            with_settings(recipe, {name: int(end) if span.whole else end})
        return span
    if not isinstance(value, list | tuple):
        raise RecipeError(
            f"sweep: {name}: found {value!r:.80}. Expected a list of values, or a range such as 1e-5..1e-3. "
            "Write a single value as a setting."
        )
    if not value:
        raise RecipeError(f"sweep: {name}: found an empty list. Expected at least one value. Add some, or remove it.")
    checked: list[Any] = []
    for item in value:
        # What the recipe makes of a value is compared: 1e-4 and "0.0001" are the same.
        resolved = _value_of(with_settings(recipe, {name: item}), name)
        if resolved in checked:
            raise RecipeError(
                f"sweep: {name}: found {shown_value(resolved)} twice. Expected different values. Remove one of them."
            )
        checked.append(resolved)
    return tuple(checked)


def _value_of(recipe: Recipe, name: str) -> Any:
    value: Any = recipe.model_dump(mode="json", exclude_unset=name in ("data.sources", "data.heldout"))
    for part in name.split("."):
        value = value[part]
    return value


def read_range(name: str, value: Any) -> Range | None:
    """Return a range of a setting, or None if the value is none.

    A range is a mapping with `low` and `high`, and `log` if wanted, or text such as ``1e-5..1e-3``, ``8..64:log``.

    Raises:
        RecipeError: If the setting is no number, or the range is empty or cannot be logarithmic.

    Example:
        >>> read_range("optimizer.lr", "1e-5..1e-3"), read_range("optimizer.lr", [1, 2])
        (Range(low=1e-05, high=0.001, log=True, whole=False), None)
    """
    if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
        parts: dict[str, Any] = {"low": match[1], "high": match[2]}
        parts |= {"log": match[3].lower() == "log"} if match[3] else {}
    elif isinstance(value, Mapping) and {"low", "high"} <= value.keys() <= RANGE_KEYS:
        parts = dict(value)
    else:
        return None
    kinds = plain_kinds(setting_type(name))
    if not kinds & {int, float} or bool in kinds:
        raise RecipeError(f"sweep: {name}: found a range, but it is no number. Expected a list of values. Name them.")
    whole = float not in kinds
    low, high = (_number(name, parts[end], whole=whole) for end in ("low", "high"))
    log = parts.get("log", name in RATES and low > 0)
    if not isinstance(log, bool):
        raise RecipeError(f"sweep: {name}: log is {log!r:.40}. Expected true or false. Fix it.")
    if low >= high or (log and low <= 0):
        above = " above 0, because the range is logarithmic" if log and low <= 0 else ""
        raise RecipeError(
            f"sweep: {name}: found the range {shown_value(low)} to {shown_value(high)}. "
            f"Expected a lower end{above or ' below the upper one'}. Fix it."
        )
    return Range(low, high, log, whole)


def _number(name: str, value: Any, *, whole: bool) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or (whole and number != int(number)):
        expected = "a whole number" if whole else "a number"
        raise RecipeError(f"sweep: {name}: an end of the range is {value!r:.40}. Expected {expected}. Fix it.")
    return number


def _with_options(values: Mapping[str, Values], options: Mapping[str, Any]) -> Space:
    """Return the space with its options checked."""
    search, trials, best_by = options.get("search"), options.get("trials"), options.get("best_by", HELDOUT)
    if search not in (None, "optuna"):
        raise RecipeError(f"sweep.search: found {search!r:.40}. Expected optuna. Fix it, or leave it out.")
    if isinstance(trials, str) and trials.isdecimal():  # typed as --sweep.trials
        trials = int(trials)
    if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 1):
        raise RecipeError(f"sweep.trials: found {trials!r:.40}. Expected a whole number of at least 1. Fix it.")
    if not isinstance(best_by, str) or not best_by:
        raise RecipeError(f"sweep.best_by: found {best_by!r:.40}. Expected {', '.join(OF_RUNS)} or a task. Fix it.")
    direction = options.get("direction", "min" if best_by in LOSSES else "max")
    if direction not in ("min", "max"):
        raise RecipeError(f"sweep.direction: found {direction!r:.40}. Expected min or max. Fix it.")
    spans = [name for name, value in values.items() if isinstance(value, Range)]
    if search is None and (spans or trials is not None):
        found = f"{spans[0]} is the range {values[spans[0]]}" if spans else f"found {trials} trials"
        raise RecipeError(
            f"sweep: {found}, and no search is set. Expected a list of values, or a search. "
            "Add --search optuna --trials 20, or name the values."
        )
    if search is not None and trials is None:
        raise RecipeError("sweep.trials: a search has no end without them. Expected a number. Add --trials 20.")
    return Space(values, best_by, direction, search, trials)
