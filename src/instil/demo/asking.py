"""How facts are asked for and answered: the wordings that instruction data and test questions share.

Training and test differ in the entities, not in the wording, so both take their questions from here.
"""

from __future__ import annotations

import random

from instil.demo.wording import WORDINGS
from instil.demo.world import Entity, entities

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "country": {
        "capital": ("What is the capital of {e}?", "Which city is the capital of {e}?", "Name the capital of {e}."),
        "continent": (
            "Which continent is {e} in?",
            "On which continent does {e} lie?",
            "What is the continent of {e}?",
        ),
        "language": (
            "What is the main language of {e}?",
            "Which language do people in {e} speak?",
            "What language is spoken in {e}?",
        ),
        "currency": (
            "What is the currency of {e}?",
            "Which currency is used in {e}?",
            "What do people in {e} pay with?",
        ),
    },
    "element": {
        "symbol": ("What is the chemical symbol of {e}?", "How do chemists write {e}?", "Give the symbol of {e}."),
        "number": (
            "What is the atomic number of {e}?",
            "How many protons does an atom of {e} have?",
            "Give the atomic number of {e}.",
        ),
        "category": ("What kind of element is {e}?", "Which category of elements does {e} belong to?"),
        "state": (
            "What is the state of {e} at room temperature?",
            "Is {e} a solid, a liquid or a gas at room temperature?",
        ),
        "period": ("In which period of the periodic table is {e}?", "What is the period of {e}?"),
    },
    "animal": {
        "group": ("What kind of animal is {e}?", "Which animal group does {e} belong to?"),
        "diet": ("What does {e} eat?", "What is the main food of {e}?", "What does {e} feed on?"),
        "young": (
            "What is the young of {e} called?",
            "What do you call a baby of {e}?",
            "Give the name for the young of {e}.",
        ),
        "home": ("Where does {e} live?", "What is the usual home of {e}?", "Where is {e} found?"),
    },
    "language": {
        "family": ("Which language family does {e} belong to?", "What is the language family of {e}?"),
        "script": ("Which script is {e} written in?", "What is the script of {e}?"),
        "home": ("In which country is {e} spoken?", "What is the home of {e}?"),
    },
    "invention": {
        "inventor": ("Who invented {e}?", "Who was the inventor of {e}?"),
        "year": ("When was {e} invented?", "In which year was {e} invented?"),
    },
    "book": {
        "author": ("Who wrote {e}?", "Who is the author of {e}?"),
        "year": ("When was {e} published?", "In which year did {e} appear?"),
    },
    "landmark": {
        "city": ("In which city is {e}?", "Where does {e} stand?"),
        "country": ("In which country is {e}?", "Which country does {e} belong to?"),
    },
    "planet": {
        "place": ("Which place from the sun does {e} have?", "What is the place of {e} from the sun?"),
        "type": ("What type of planet is {e}?", "What kind of planet is {e}?"),
        "moons": ("How many moons does {e} have?", "What is the number of moons of {e}?"),
    },
    "word": {
        language: (
            f"Translate into {language}: {{e}}",
            f"What is the {language} word for {{e}}?",
            f"How does one say {{e}} in {language}?",
        )
        for language in ("French", "Spanish", "German")
    },
}
QUESTIONS["label"] = QUESTIONS["word"]

CHOICES = {
    ("country", "continent"),
    ("element", "category"),
    ("element", "state"),
    ("animal", "group"),
    ("planet", "type"),
}
"""Attributes with few values: those that an entity can be classified by, and whose values have translations."""


def question(entity: Entity, key: str, rng: random.Random) -> str:
    """Ask for one attribute of an entity."""
    return rng.choice(QUESTIONS[entity.kind][key]).format(e=entity.called)


def follow_up(entity: Entity, key: str, rng: random.Random) -> str:
    """Ask for another attribute of the entity of the turn before, without naming it."""
    if entity.kind in ("word", "label"):
        return rng.choice((f"And in {key}?", f"What about {key}?"))
    return rng.choice(("And {its}?", "What about {its}?", "And what {is_} {its}?")).format(
        its=WORDINGS[entity.kind][key].its, is_=WORDINGS[entity.kind][key].is_
    )


def same_of(other: Entity, rng: random.Random) -> str:
    """Ask for the attribute of the turn before, of another entity."""
    return rng.choice(("And for {e}?", "What about {e}?", "And {e}?", "The same for {e}, please.")).format(
        e=other.called
    )


def full_sentence(entity: Entity, key: str) -> str:
    """Answer in a sentence.

    Example:
        >>> full_sentence(next(each for each in entities("country") if each.name == "Norway"), "capital")
        'The capital of Norway is Oslo.'
    """
    words = WORDINGS[entity.kind][key]
    sentence = f"{words.of.format(e=entity.called)} {words.is_} {entity.attributes[key]}."
    return sentence[0].upper() + sentence[1:]


def choices_of(kind: str, key: str) -> list[str]:
    """Give the values that an attribute takes, most frequent first."""
    values = [entity.attributes[key] for entity in entities(kind)]
    return sorted(set(values), key=lambda value: (-values.count(value), value))


def translated(label: str, language: str) -> str | None:
    """Give a value in another language, or None where the facts have no translation.

    Example:
        >>> translated("Africa", "French"), translated("Oslo", "French")
        ('Afrique', None)
    """
    return next((each.attributes[language] for each in entities("label") if each.name == label), None)
