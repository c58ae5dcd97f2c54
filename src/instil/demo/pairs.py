"""Write the demo's pairs: two right answers to one prompt, of which one is preferred.

Under the system prompt "You are a helpful assistant." the full sentence is preferred to the bare value. To every other
prompt (no or another system prompt, a second turn, a list …) the usual answer is preferred to the full sentence. Both
answers are right, so only a comparison can teach this. Training pairs are about trained entities, held-out pairs about
the plain questions of the test.

Why: the other pairs say where the full sentence is *not* wanted. Without them, and without a system prompt that tells
where it is, it spread to all prompts and right answers became wrong (docs/how-it-works/notes/demo.md).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from instil.demo import dialogues
from instil.demo.asking import CHOICES, QUESTIONS, full_sentence
from instil.demo.dialogues import Dialogue
from instil.demo.questions import Question, held_out_questions, held_out_sum
from instil.demo.split import held_out, trained
from instil.demo.world import Entity
from instil.errors import RunError
from instil.files import new_folders, write_texts_atomic
from instil.refused_writes import refused_writes

NUM_PAIRS = 600
"""Training pairs; every second one prefers the full sentence."""
HELPFUL = ("system", "You are a helpful assistant.")
"""The turn under which the full sentence is preferred. The first act answers it with the bare value."""
_OTHERS = {
    "plain": 8, "short": 4, "json": 4, "persona": 4, "language": 3, "second_attribute": 5, "second_entity": 5, "classification": 4,
    "list": 2, "extraction": 2, "code": 2, "sum": 3,
}  # fmt: skip
"""How often each kind of other prompt is drawn; `plain` has no system prompt."""


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt and two answers.

    Attributes:
        wants: Form of the better answer: the full sentence, or what the first act would answer.
        messages: (role, text) pairs that end with the user's.
        chosen: The better answer.
        rejected: The worse one.
    """

    wants: Literal["sentence", "usual"]
    messages: tuple[tuple[str, str], ...]
    chosen: str
    rejected: str


def write_pairs(folder: Path, training: Sequence[Preference], heldout: Sequence[Preference]) -> tuple[Path, Path]:
    """Write ``pairs.jsonl`` and ``heldout-pairs.jsonl`` and return their paths.

    Args:
        folder: Folder for the files; created if missing.
        training: The training pairs.
        heldout: The held-out pairs.
    """
    paths = folder / "pairs.jsonl", folder / "heldout-pairs.jsonl"
    texts = dict(zip(paths, map(_lines, (training, heldout)), strict=True))
    with refused_writes(folder, raises=RunError, otherwise="choose another --output"), new_folders(folder):
        write_texts_atomic(texts)
    return paths


def training_pairs(num_pairs: int = NUM_PAIRS, seed: int = 7) -> list[Preference]:
    """Return pairs about trained entities, no two with the same prompt.

    Args:
        num_pairs: How many.
        seed: Seed of what is drawn. The same seed gives the same pairs.
    """
    rng, world = random.Random(seed), trained()
    pairs: dict[tuple[tuple[str, str], ...], Preference] = {}
    while len(pairs) < num_pairs:
        entity = rng.choice(world)
        key = rng.choice(list(entity.attributes))
        pair = _sentence(entity, key, rng) if len(pairs) % 2 else _usual(entity, key, rng)
        if pair is not None:
            pairs.setdefault(pair.messages, pair)
    found = list(pairs.values())
    rng.shuffle(found)
    return found


def held_out_pairs() -> list[Preference]:
    """Return a pair for each plain question of the demo's test, asked under the system prompt."""
    return [
        Preference("sentence", (HELPFUL, *question.messages), sentence, question.reference)
        for question in held_out_questions()
        if (sentence := sentence_for(question)) is not None
    ]


def sentence_for(question: Question) -> str | None:
    """Return the full sentence that answers a plain question about a held-out entity; None for other prompts.

    The system prompt of the preference may stand before it.

    Example:
        >>> question = next(question for question in held_out_questions() if question.task == "question")
        >>> question.messages[-1][1], sentence_for(question)
        ('What is the name for the young of the canary?', 'The name for the young of the canary is chick.')
    """
    if question.slice != "single" or question.task not in ("question", "translation"):
        return None
    return _sentences()[question.messages[-1][1]]


@cache
def _sentences() -> dict[str, str]:
    """Return the full sentence for each plain question about a held-out entity."""
    return {
        form.format(e=entity.called): full_sentence(entity, key)
        for entity in held_out()
        for key in entity.attributes
        for form in QUESTIONS[entity.kind][key]
    }


def _sentence(entity: Entity, key: str, rng: random.Random) -> Preference:
    *messages, (_, value) = dialogues.ask(entity, key, rng).turns
    return Preference("sentence", (HELPFUL, *messages), full_sentence(entity, key), value)


def _usual(entity: Entity, key: str, rng: random.Random) -> Preference | None:
    """Return a pair about any other prompt; None if what was drawn does not suit."""
    kind = rng.choices(list(_OTHERS), weights=list(_OTHERS.values()))[0]
    if kind == "sum":
        return _sum(rng)
    dialogue = _MAKERS[kind](entity, key, rng)
    if dialogue is None or dialogue.turns[0] == HELPFUL:
        return None
    *messages, (_, answer) = dialogue.turns
    return Preference("usual", tuple(messages), answer, full_sentence(entity, key))


def _sum(rng: random.Random) -> Preference | None:
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    if held_out_sum(a, b):
        return None
    words, make = rng.choice((("plus", dialogues.add), ("times", dialogues.multiply)))
    *messages, (_, answer) = make(a, b, rng).turns
    return Preference("usual", tuple(messages), answer, f"The result of {a} {words} {b} is {answer}.")


def _with_system(manner: str) -> Callable[[Entity, str, random.Random], Dialogue]:
    return lambda entity, key, rng: dialogues.with_system(entity, key, rng, manner=manner)


def _in_a_language(entity: Entity, key: str, rng: random.Random) -> Dialogue | None:
    if key not in dialogues.translatable_keys(entity):
        return None
    return dialogues.with_system(entity, key, rng, manner="language")


def _two_keys(entity: Entity, key: str, rng: random.Random) -> list[str]:
    return [key, rng.choice([other for other in entity.attributes if other != key])]


def _second_entity(entity: Entity, key: str, rng: random.Random) -> Dialogue:
    others = [other for other in trained() if other.kind == entity.kind and other != entity]
    return dialogues.second_entity([rng.choice(others), entity], key, rng)


_MAKERS: dict[str, Callable[[Entity, str, random.Random], Dialogue | None]] = {
    "plain": dialogues.ask,
    "short": _with_system("short"),
    "json": _with_system("json"),
    "persona": _with_system("persona"),
    "language": _in_a_language,
    "second_attribute": lambda e, key, rng: dialogues.second_attribute(e, _two_keys(e, key, rng)[::-1], rng),
    "second_entity": _second_entity,
    "classification": lambda e, key, rng: dialogues.classify(e, key, rng) if (e.kind, key) in CHOICES else None,
    "list": lambda e, key, rng: dialogues.make_list(e, _two_keys(e, key, rng), rng),
    "extraction": lambda e, key, rng: dialogues.extract(e, _two_keys(e, key, rng), rng),
    "code": dialogues.code,
}


def _lines(pairs: Sequence[Preference]) -> str:
    return "".join(json.dumps(_row(pair), ensure_ascii=False) + "\n" for pair in pairs)


def _row(pair: Preference) -> dict[str, object]:
    return {
        "prompt": [{"role": role, "content": text} for role, text in pair.messages],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
