"""The wording of questions and answers, which the instruction data and the test questions share.

Training and test differ in their entities, not in the wording, so both take their questions from here.
"""

from __future__ import annotations

import random

from instil.demo.wording import WORDINGS
from instil.demo.world import Entity, entities

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "country": {
        "capital": ("What is the capital of {e}?", "Which city is the capital of {e}?"),
        "continent": ("What is the continent of {e}?", "On which continent does {e} lie?"),
        "language": ("What is the main language of {e}?", "Which language is spoken in {e}?"),
        "currency": ("What is the currency of {e}?", "Which currency is used in {e}?"),
    },
    "element": {
        "symbol": ("What is the chemical symbol of {e}?", "What is the symbol of {e}?"),
        "number": ("What is the atomic number of {e}?", "Which atomic number has {e}?"),
        "category": ("What is the category of {e}?", "Which category of elements is {e}?"),
        "state": ("What is the state of {e} at room temperature?", "Is {e} a solid, a liquid or a gas?"),
        "period": ("What is the period of {e}?", "In which period is {e}?"),
    },
    "animal": {
        "group": ("What is the animal group of {e}?", "Which animal group is {e} classed as?"),
        "diet": ("What is the main food of {e}?", "Which food does {e} live on?"),
        "young": ("What is the young of {e} called?", "What is the name for the young of {e}?"),
        "home": ("What is the usual home of {e}?", "Where is {e} found?"),
    },
    "language": {
        "family": ("What is the language family of {e}?", "Which family does {e} belong to?"),
        "script": ("What is the script of {e}?", "In which script is {e} written?"),
        "home": ("What is the home of {e}?", "In which country is {e} spoken?"),
    },
    "invention": {
        "inventor": ("Who was the inventor of {e}?", "Who invented {e}?"),
        "year": ("What was the year of {e}?", "In which year was {e} invented?"),
    },
    "book": {
        "author": ("Who was the author of {e}?", "Who wrote {e}?"),
        "year": ("What was the year of {e}?", "In which year was {e} published?"),
    },
    "landmark": {
        "city": ("What is the city of {e}?", "In which city is {e}?"),
        "country": ("What is the country of {e}?", "In which country is {e}?"),
    },
    "planet": {
        "place": ("What is the place of {e}?", "Which planet from the sun is {e}?"),
        "type": ("What is the type of {e}?", "What type of planet is {e}?"),
        "moons": ("What is the number of moons of {e}?", "How many moons does {e} have?"),
    },
    "word": {
        language: (f"What is the {language} word for {{e}}?", f"Translate into {language}: {{e}}")
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
"""Attributes with few values. Classification questions use them, and the facts translate many of their values."""


def question(entity: Entity, key: str, rng: random.Random) -> str:
    """Write a question about one attribute of an entity."""
    return rng.choice(QUESTIONS[entity.kind][key]).format(e=entity.called)


def follow_up(entity: Entity, key: str, rng: random.Random) -> str:
    """Write a question about another attribute of the previous turn's entity, without its name."""
    if entity.kind in ("word", "label"):
        return rng.choice((f"And in {key}?", f"What about {key}?"))
    return rng.choice(("And {its}?", "What about {its}?", "And what {is_} {its}?")).format(
        its=WORDINGS[entity.kind][key].its, is_=WORDINGS[entity.kind][key].is_
    )


def same_of(other: Entity, rng: random.Random) -> str:
    """Write a question about the previous turn's attribute, for another entity."""
    return rng.choice(("And for {e}?", "What about {e}?", "And {e}?", "The same for {e}, please.")).format(
        e=other.called
    )


def full_sentence(entity: Entity, key: str) -> str:
    """Return a fact as a full sentence.

    Example:
        >>> norway = next(country for country in entities("country") if country.name == "Norway")
        >>> full_sentence(norway, "capital")
        'The capital of Norway is Oslo.'
    """
    words = WORDINGS[entity.kind][key]
    sentence = f"{words.of.format(e=entity.called)} {words.is_} {entity.attributes[key]}."
    return sentence[0].upper() + sentence[1:]


def choices_of(kind: str, key: str) -> list[str]:
    """Return the values of an attribute, most frequent first."""
    values = [entity.attributes[key] for entity in entities(kind)]
    return sorted(set(values), key=lambda value: (-values.count(value), value))


def translated(label: str, language: str) -> str | None:
    """Return a value in another language, or None if the facts have no translation.

    Example:
        >>> translated("Africa", "French"), translated("Oslo", "French")
        ('Afrique', None)
    """
    return next((entity.attributes[language] for entity in entities("label") if entity.name == label), None)
