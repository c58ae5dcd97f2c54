"""Groups of prompts that get figures of their own: by task, language, prompt length, turn and system text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from instil.evaluation.cases import Case
from instil.evaluation.language import language_of
from instil.generation.engine import text_of

TASK_COLUMNS = ("task", "category", "type", "subset", "subject", "level")
MAX_GROUPS = 12
LENGTHS = (64, 256, 1_024, 4_096)


@dataclass(frozen=True, slots=True)
class Slice:
    """A group of cases.

    Attributes:
        kind: Property by which the cases are grouped.
        name: Value of the property in this group.
        numbers: Indices of the cases of the group.
    """

    kind: str
    name: str
    numbers: tuple[int, ...]


def slices_of(cases: Sequence[Case]) -> list[Slice]:
    """Return the groups of every property that has 2 to 12 different values."""
    slices: list[Slice] = []
    for kind, names in _groupings(cases).items():
        groups: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            groups.setdefault(name, []).append(at)
        if 2 <= len(groups) <= MAX_GROUPS:
            slices += [Slice(kind, name, tuple(numbers)) for name, numbers in sorted(groups.items())]
    return slices


def _groupings(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Return the value of every case, by property."""
    # Properties that every case has.
    groupings = {
        "language": [language_of(_question(case)) for case in cases],
        "prompt length": [_length(len(case.answer.prompt_ids)) for case in cases],
        "turn": [str(case.prompt.turn) if case.prompt.turn < 5 else "5 and later" for case in cases],
        "system text": [
            "with" if case.prompt.conversation.messages[0].role in ("system", "developer") else "without"
            for case in cases
        ],
    }
    # Columns of the data that usually hold a category. Columns of lists or mappings are ignored; cases without a value
    # form a group of their own.
    for column in TASK_COLUMNS:
        values = [case.columns.get(column) for case in cases]
        if any(isinstance(value, str | int) for value in values):
            groupings[column] = ["(none)" if value is None else str(value) for value in values]
    return groupings


def _question(case: Case) -> str:
    questions = [message for message in case.prompt.conversation.messages if message.role == "user"]
    return text_of(questions[-1]) if questions else ""


def _length(num_tokens: int) -> str:
    bounds = (0, *LENGTHS)
    for low, high in pairwise(bounds):
        if num_tokens <= high:
            return f"{low + 1:,}–{high:,} tokens"
    return f"over {LENGTHS[-1]:,} tokens"
