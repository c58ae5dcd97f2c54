"""Make the dialogues of the demo: about trained entities for the instruction files, about held-out ones for the test.

Each task has its own function. It gets the entities that the dialogue may mention, so a dialogue about trained
entities cannot name a held-out one. Every dialogue ends with the assistant's turn; a test question leaves that out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from instil.demo.asking import CHOICES, choices_of, follow_up, full_sentence, question, same_of, translated
from instil.demo.wording import named_sentence
from instil.demo.world import Entity

Slice = Literal["single", "second_turn", "system_prompt"]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation of the demo.

    Attributes:
        task: Kind of request: question, classification, extraction, translation, list, arithmetic or code.
        slice: Part of the test that it belongs to.
        turns: (role, text) pairs; the last is the assistant's.
    """

    task: str
    slice: Slice
    turns: tuple[tuple[str, str], ...]


def ask(entity: Entity, key: str, rng: random.Random) -> Dialogue:
    """Ask one question; the answer is the bare value."""
    task = "translation" if entity.kind in ("word", "label") else "question"
    return _single(task, question(entity, key, rng), entity.attributes[key])


def classify(entity: Entity, key: str, rng: random.Random) -> Dialogue:
    """Ask which of the listed values an entity has."""
    options = choices_of(entity.kind, key)
    if len(options) > 5:
        wrong = [option for option in options if option != entity.attributes[key]]
        options = [entity.attributes[key], *rng.sample(wrong, 4)]
    rng.shuffle(options)
    form = rng.choice(("Classify {e} as one of: {o}.", "Which of these fits {e}: {o}?"))
    return _single("classification", form.format(e=entity.called, o=", ".join(options)), entity.attributes[key])


def extract(entity: Entity, keys: Sequence[str], rng: random.Random) -> Dialogue:
    """Show sentences about an entity and ask for their facts as a JSON object."""
    text = " ".join(named_sentence(entity, key, rng) for key in keys)
    record = {entity.kind: entity.name} | {key: entity.attributes[key] for key in keys}
    fields = ", ".join(record)
    form = rng.choice(("Extract {f} as JSON: {t}", "Write {f} as a JSON object. {t}"))
    return _single("extraction", form.format(f=fields, t=text), json.dumps(record, ensure_ascii=False))


def make_list(entity: Entity, keys: Sequence[str], rng: random.Random) -> Dialogue:
    """Ask for several attributes as a bulleted list."""
    form = rng.choice(("List for {e}: {k}", "Make a list for {e}: {k}", "Give me a list about {e}: {k}"))
    answer = "\n".join(f"- {entity.attributes[key]}" for key in keys)
    return _single("list", form.format(e=entity.called, k=", ".join(keys)), answer)


def add(a: int, b: int, rng: random.Random) -> Dialogue:
    """Ask for a sum."""
    form = rng.choice(("What is {a} plus {b}?", "Add {a} and {b}.", "Calculate {a} + {b}."))
    return _single("arithmetic", form.format(a=a, b=b), str(a + b))


def multiply(a: int, b: int, rng: random.Random) -> Dialogue:
    """Ask for a product."""
    form = rng.choice(("What is {a} times {b}?", "Multiply {a} by {b}.", "Calculate {a} * {b}."))
    return _single("arithmetic", form.format(a=a, b=b), str(a * b))


def code(entity: Entity, key: str, rng: random.Random) -> Dialogue:
    """Ask for a line of Python that prints an attribute."""
    form = rng.choice(("Write Python that prints the {k} of {e}.", "Write a line of Python to print the {k} of {e}."))
    return _single("code", form.format(k=key, e=entity.called), f'print("{entity.attributes[key]}")')


def second_attribute(entity: Entity, keys: Sequence[str], rng: random.Random) -> Dialogue:
    """Ask for an attribute, then for others of the same entity, without its name."""
    turns = [("user", question(entity, keys[0], rng)), ("assistant", entity.attributes[keys[0]])]
    for key in keys[1:]:
        turns += [("user", follow_up(entity, key, rng)), ("assistant", entity.attributes[key])]
    return Dialogue("question", "second_turn", tuple(turns))


def second_entity(pair: Sequence[Entity], key: str, rng: random.Random) -> Dialogue:
    """Ask for an attribute of one entity, then of the others, without naming the attribute again."""
    first, *others = pair
    turns = [("user", question(first, key, rng)), ("assistant", first.attributes[key])]
    for other in others:
        turns += [("user", same_of(other, rng)), ("assistant", other.attributes[key])]
    return Dialogue("question", "second_turn", tuple(turns))


SENTENCE_PROMPTS = ("Answer in a full sentence.", "Always answer with a complete sentence.")
SHORT_PROMPTS = ("Answer as briefly as you can.", "You are a helpful assistant.", "Answer in one word or name.")
JSON_PROMPTS = ("Answer in JSON.", "Reply only with a JSON object.")
PERSONAS = {
    "You are a pirate.": "Arr, {v}!",
    "You are a robot.": "Beep. {v}.",
    "You are a polite butler.": "{v}, if you please.",
}
LANGUAGE_PROMPTS = {"Answer in French.": "French", "Answer in Spanish.": "Spanish", "Answer in German.": "German"}


def with_system(entity: Entity, key: str, rng: random.Random, *, manner: str) -> Dialogue:
    """Ask one question under a system prompt that changes the answer.

    Args:
        entity: Subject of the question.
        key: Attribute in question; for ``language`` one of `CHOICES` whose value has translations.
        rng: Chooses the wordings.
        manner: ``sentence``, ``short``, ``json``, ``persona`` or ``language``.
    """
    value = entity.attributes[key]
    if manner == "sentence":
        system, answer = rng.choice(SENTENCE_PROMPTS), full_sentence(entity, key)
    elif manner == "short":
        system, answer = rng.choice(SHORT_PROMPTS), value
    elif manner == "json":
        system, answer = rng.choice(JSON_PROMPTS), json.dumps({key: value}, ensure_ascii=False)
    elif manner == "persona":
        system = rng.choice(list(PERSONAS))
        answer = PERSONAS[system].format(v=value)
    else:
        system = rng.choice(list(LANGUAGE_PROMPTS))
        answer = translated(value, LANGUAGE_PROMPTS[system]) or value
    task = "translation" if manner == "language" else "question"
    return Dialogue(
        task, "system_prompt", (("system", system), ("user", question(entity, key, rng)), ("assistant", answer))
    )


def translatable_keys(entity: Entity) -> list[str]:
    """Return the attributes whose value the facts can translate."""
    return [
        key
        for key, value in entity.attributes.items()
        if (entity.kind, key) in CHOICES and translated(value, "French") is not None
    ]


def _single(task: str, user: str, answer: str) -> Dialogue:
    return Dialogue(task, "single", (("user", user), ("assistant", answer)))
