"""The sample answers of a run: for each fixed prompt, what the model wrote at each evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20
"""Of a larger file its beginning and its end are read."""
MOST_STEPS = 12
"""Evaluations beside each other: the first, the last, and some between them."""
MOST_PROMPTS = 24
MOST_CHARACTERS = 4_000
"""Of an answer that is shown; the file has all of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote to a prompt at one evaluation."""

    step: int
    text: str
    is_cut: bool
    is_changed: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """Answers of a run.

    Attributes:
        steps: The evaluations that are shown.
        rows: Each prompt with its answers, in the order of `steps`; None where there is none.
        num_steps: All evaluations that have answers.
        num_prompts: All prompts.
    """

    steps: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Answer | None, ...]], ...]
    num_steps: int
    num_prompts: int


def read_samples(path: Path, *, most_steps: int = MOST_STEPS) -> Samples:
    """Read the answers of a run; lines that are damaged or not complete are left out.

    Args:
        path: The `samples.jsonl`. A missing file has no answers.
        most_steps: Evaluations to show.
    """
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for line in _text(path).split(b"\n")[:-1]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and type(value.get("step")) is int:
            by_step.setdefault(value["step"], []).append(value)
    steps = _chosen(sorted(by_step), most_steps)
    num_prompts = max(map(len, by_step.values()), default=0)
    rows = []
    for number in range(min(num_prompts, MOST_PROMPTS)):
        found = {step: by_step[step][number] for step in steps if number < len(by_step[step])}
        prompt = str(next(iter(found.values()), {}).get("prompt", ""))
        before, answers = None, []
        for step in steps:
            answer = _answer(found[step], before) if step in found else None
            before = answer.text if answer else before
            answers.append(answer)
        rows.append((prompt, tuple(answers)))
    return Samples(tuple(steps), tuple(rows), len(by_step), num_prompts)


def sampled_step(path: Path) -> int:
    """Return the last step that has answers, or -1."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - (1 << 16)))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["step"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return -1


def _answer(value: Mapping[str, Any], before: str | None) -> Answer:
    text = str(value.get("answer", ""))[:MOST_CHARACTERS]
    return Answer(value["step"], text, value.get("finish_reason") == "length", before is not None and text != before)


def _chosen(steps: list[int], most: int) -> list[int]:
    """Return some of the steps, the first and the last among them, at even distances."""
    if len(steps) <= most:
        return steps
    return [steps[number * (len(steps) - 1) // (most - 1)] for number in range(most)]


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= MOST_BYTES:
                return file.read()
            start = file.read(MOST_BYTES // 8)
            file.seek(size - MOST_BYTES * 7 // 8)
            return start[: start.rfind(b"\n") + 1] + file.read().partition(b"\n")[2]
    except FileNotFoundError:
        return b""
