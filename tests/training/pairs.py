"""Rows of pairs for runs that learn from preferences, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.training.tiny import VOCABULARY

from instil.conversation import Example, Place
from instil.training.records.run_folder import Run

NUM_PAIRS = 24
STEPS = 4
SHORT: dict[str, Any] = {
    "training": {"max_steps": STEPS, "batch_size": 4},
    "optimizer": {"lr": 2e-3, "schedule": "constant", "warmup": 0},
    "evaluate": {"every": STEPS, "max_new_tokens": 1},
    "checkpoint": {"every": 1, "keep_last": 9},
}
"""Changes of `command_line.QUICK` for a run of a few seconds."""
FIGURES = ("margin", "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens", "drift")


def make_pairs(path: Path, *, count: int = NUM_PAIRS) -> Path:
    """Write pairs whose rejected answers are longer, a third of them after two turns."""
    rows = []
    for number in range(count):
        prompt = [{"role": "user", "content": f"{number}+1"}]
        if number % 3 == 0:
            prompt += [{"role": "assistant", "content": "?"}, {"role": "user", "content": "again"}]
        wrong = str(number * 7 + 2) + "!" * (number % 5)
        sides = {"chosen": str(number + 1), "rejected": wrong}
        answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
        rows.append(json.dumps({"prompt": prompt, **answers}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def figures_of(run: Run, *, prefix: str = "") -> list[list[float]]:
    """Return margin, rewards, lengths and drift of a run's steps, or with ``heldout_`` of its evaluations.

    Accuracy is left out: while all rewards are 0 up to rounding, rounding decides it.
    """
    lines = [line for line in run.metrics() if f"{prefix}margin" in line]
    return [[float(line.get(prefix + name, 0.0)) for name in FIGURES] for line in lines]


def invented_pairs(count: int, *, seed: int = 0) -> list[Example]:
    """Pairs with a common prompt and two endings of other lengths."""
    random = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        prompt = random.integers(0, VOCABULARY, int(random.integers(2, 9))).tolist()
        for side in ("chosen", "rejected"):
            ending = random.integers(0, VOCABULARY, int(random.integers(2, 12))).tolist()
            weights = [0.0] * len(prompt) + [1.0] * len(ending)
            place = Place("pairs.jsonl", number + 1)
            examples.append(Example([*prompt, *ending], weights, place=place, side=side))
    return examples
