"""The task ``preference``: which of two answers a model finds more likely.

It needs no generated answer: both answers of a row are encoded as for training, and the model gives each a
log-probability. Against another model, the difference of the margins is what preference tuning moved.

Why: a log-probability is a sum over tokens, so a model may seem to prefer whatever is shorter. The figures per token,
and with both directions of length counted alike, show whether it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from instil.conversation import Example, Place
from instil.data import read
from instil.errors import EvaluationError
from instil.evaluation.cases import Case
from instil.evaluation.heldout import batches_of, loss_sums
from instil.evaluation.intervals import Interval, resampled_interval
from instil.generation.decoding import context_limit
from instil.generation.engine import Engine
from instil.generation.prompts import Prompt
from instil.preparation.encode_pairs import Unit, encode_units
from instil.screen import work

PREFERENCE, MAIN = "preference", "accuracy"
NO_TEMPLATE = "no chat template, so its answers have no certain tokens"
Key: TypeAlias = tuple[str, int | None]
Pairs: TypeAlias = Mapping[Key, Sequence[Unit]]
"""The chosen and the rejected conversation of each pair of a row, by the row's source and number."""


def has_pairs(prompts: Sequence[Prompt]) -> bool:
    """Return whether prompts come from rows with a rejected answer."""
    return any("rejected" in prompt.conversation.extra for prompt in prompts)


def read_pairs(data: Any, prompts: Sequence[Prompt]) -> Pairs:
    """Read the pairs of the rows that prompts come from.

    Args:
        data: What the prompts were read from.
        prompts: The prompts.

    Raises:
        DataError: If a row has no two answers to compare.
    """
    wanted = {key_of(prompt.place) for prompt in prompts}
    pairs: dict[Key, list[Unit]] = {}
    sides = iter(read(data, objective="dpo"))
    for chosen in sides:
        rejected, key = next(sides), key_of(chosen.place)
        if key in wanted:
            pairs.setdefault(key, []).append((chosen, rejected))
    return pairs


def key_of(place: Place | None) -> Key:
    """Return what tells a row from others, whatever was made of it."""
    return ("", None) if place is None else (place.source, place.row)


@dataclass(frozen=True, slots=True)
class PairScore:
    """Log-probabilities of the answers of a pair, and their trained tokens.

    Attributes:
        chosen: Of the better answer, its stop token included.
        rejected: Of the worse one.
        chosen_length: Tokens of the better answer.
        rejected_length: Tokens of the worse one.
    """

    chosen: float
    rejected: float
    chosen_length: float
    rejected_length: float

    def scores(self) -> dict[str, float]:
        """Return who wins, whole and per token, as 1, 0 or a half, and the margin in nats."""
        per_token = self.chosen / self.chosen_length, self.rejected / self.rejected_length
        return {
            MAIN: _won(self.chosen, self.rejected),
            "per_token": _won(*per_token),
            "margin": self.chosen - self.rejected,
        }


def _won(chosen: float, rejected: float) -> float:
    """Return 1 if the first number is higher, a half for equal ones, else 0."""
    return 0.5 if chosen == rejected else float(chosen > rejected)


def score_pairs(
    engine: Engine, cases: Sequence[Case], pairs: Pairs
) -> tuple[dict[int, dict[str, float]], dict[str, Interval]]:
    """Score the pairs of the rows that cases come from; none of a model without a chat template.

    Args:
        engine: The model.
        cases: The cases.
        pairs: Their pairs.

    Returns:
        The scores by the number of the case, the mean of its pairs; and the figures of all pairs together.

    Raises:
        EvaluationError: If no pair can be compared.
    """
    if engine.chat is None:
        return {}, {}
    units = [(number, unit) for number, case in enumerate(cases) for unit in pairs.get(key_of(case.prompt.place), ())]
    compared = compare_answers(engine, [unit for _, unit in units])
    of_cases = [(number, pair) for (number, _), pair in zip(units, compared, strict=True) if pair is not None]
    if not of_cases:
        raise EvaluationError(
            f"task {PREFERENCE}: no pair can be compared. Expected rows with a prompt and two different answers that fit "
            "the model's context. Choose other data, or leave the task out."
        )
    by_case: dict[int, list[PairScore]] = {}
    for number, pair in of_cases:
        by_case.setdefault(number, []).append(pair)
    scores = {number: _mean([pair.scores() for pair in some]) for number, some in by_case.items()}
    return scores, _of_all([pair for _, pair in of_cases])


def compare_answers(engine: Engine, units: Sequence[Unit]) -> list[PairScore | None]:
    """Return the log-probabilities of the answers of each pair; None for a pair that cannot be compared.

    Args:
        engine: A model with a chat template.
        units: The chosen and the rejected conversation of each pair.
    """
    assert engine.chat is not None
    limit = context_limit(engine.model)
    examples: list[tuple[int, Example]] = []
    usable: list[bool] = []
    for _, outcome in encode_units(units, engine.chat, "pairs"):
        usable.append(
            isinstance(outcome, list) and all(limit is None or len(one.token_ids) <= limit for one in outcome)
        )
        if isinstance(outcome, list) and usable[-1]:
            examples += [(len(examples) + at, one) for at, one in enumerate(outcome)]
    scored = _scored(engine, examples)
    return [next(scored) if is_usable else None for is_usable in usable]


def _scored(engine: Engine, examples: Sequence[tuple[int, Example]]) -> Iterator[PairScore]:
    sums, lengths = np.zeros(len(examples)), np.zeros(len(examples))
    with work("answers compared", total=len(examples), unit="answers") as bar:
        for batch in batches_of(engine.model, examples):
            for (number, example), loss in zip(batch, loss_sums(engine.model, [e for _, e in batch]), strict=True):
                sums[number], lengths[number] = -loss, sum(example.weights)
            bar.advance(len(batch))
    for at in range(0, len(examples), 2):
        yield PairScore(*sums[at : at + 2].tolist(), *lengths[at : at + 2].tolist())


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(one[name] for one in scores) / len(scores) for name in scores[0]}


def _of_all(pairs: Sequence[PairScore]) -> dict[str, Interval]:
    """Return the length-controlled share: pairs with the longer and with the shorter chosen answer count half each.

    Example:
        >>> longer, shorter = PairScore(-1, -2, 9, 4), PairScore(-3, -2, 4, 9)
        >>> _of_all([longer, longer, longer, shorter])["length_controlled"].value
        0.5
    """
    won = np.array([_won(pair.chosen, pair.rejected) for pair in pairs])
    longer = np.array([pair.chosen_length > pair.rejected_length for pair in pairs])
    shorter = np.array([pair.chosen_length < pair.rejected_length for pair in pairs])
    if not longer.any() or not shorter.any():
        return {}

    def controlled(rows: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            means = [(won[rows] * of[rows]).sum(-1) / of[rows].sum(-1) for of in (longer, shorter)]
        return np.asarray((means[0] + means[1]) / 2)

    return {"length_controlled": resampled_interval(len(pairs), controlled)}
