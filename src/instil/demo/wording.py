"""The sentences for each attribute, in the demo's dialogues and in the text that its base model was pre-trained on.

Why: a model can answer about a fact only when it has read the fact in many wordings and orders (*Source*: "Physics of
Language Models", part 3.1). So every attribute has sentences of its own, and all share the frames at the end.
In a sentence ``{e}`` is the entity, ``{v}`` the value, ``{a}`` the value with a or an.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from instil.demo.world import Entity


@dataclass(frozen=True, slots=True)
class Wording:
    """The words for one attribute.

    Attributes:
        label: Name of the attribute in cards and tables.
        of: Noun phrase with the entity: ``the capital of {e}``.
        its: Noun phrase that refers back: ``its capital``.
        named: Sentences that name the entity.
        back: Sentences that refer back to it.
        is_: The words between the noun phrase and the value.
    """

    label: str
    of: str
    its: str
    named: tuple[str, ...]
    back: tuple[str, ...]
    is_: str = "is"


def _w(label: str, named: str, back: str, *, of: str = "", its: str = "", is_: str = "is") -> Wording:
    noun = label.lower()
    return Wording(
        label,
        of or f"the {noun} of {{e}}",
        its or f"its {noun}",
        tuple(named.split(" | ")),
        tuple(back.split(" | ")),
        is_,
    )


WORDINGS: dict[str, dict[str, Wording]] = {
    "country": {
        "capital": _w(
            "Capital",
            "The government of {e} sits in {v}. | {v} is the capital city of {e}. | {e} is governed from {v}. | "
            "The capital city of {e} is called {v}. | Ambassadors to {e} live in {v}.",
            "The capital is {v}. | It is governed from {v}. | Its capital city is {v}. | {v} is its capital.",
        ),
        "continent": _w(
            "Continent",
            "{e} is a country in {v}. | {e} lies in {v}. | {e} belongs to {v}. | On the map, {e} is found in {v}. | "
            "Among the countries of {v} is {e}.",
            "It lies in {v}. | It is a country in {v}. | It is part of {v}. | Its continent is {v}.",
        ),
        "language": _w(
            "Language",
            "People in {e} speak {v}. | {v} is spoken in {e}. | In {e} one hears {v}. | "
            "The main language of {e} is {v}. | "
            "Newspapers in {e} are written in {v}.",
            "People there speak {v}. | Its main language is {v}. | {v} is spoken there. | The language is {v}.",
        ),
        "currency": _w(
            "Currency",
            "People in {e} pay with the {v}. | The money of {e} is the {v}. | In {e} prices are given in the {v}. | "
            "The {v} is used in {e}. | Shops in {e} take the {v}.",
            "People there pay with the {v}. | The money is the {v}. | Its currency is the {v}. | "
            "The {v} is used there.",
        ),
    },
    "element": {
        "symbol": _w(
            "Symbol",
            "Chemists write {e} as {v}. | The letters {v} stand for {e}. | In formulas, {e} is written {v}. | "
            "The chemical symbol of {e} is {v}. | {v} is the sign for {e}.",
            "It is written {v}. | Its chemical symbol is {v}. | The symbol is {v}. | Chemists write it as {v}.",
        ),
        "number": _w(
            "Atomic number",
            "{e} has atomic number {v}. | {e} is element number {v}. | Element {v} is {e}. | "
            "An atom of {e} has {v} protons. | "
            "In the periodic table, {e} is number {v}.",
            "It has atomic number {v}. | Its atomic number is {v}. | It is element number {v}. | "
            "Its atoms have {v} protons.",
        ),
        "category": _w(
            "Category",
            "{e} is {a}. | Chemists count {e} as {a}. | {e} is classed as {a}. | As {a}, {e} has many uses. | "
            "Among the elements, {e} is {a}.",
            "It is {a}. | It is classed as {a}. | Its category is {v}. | The element is {a}.",
        ),
        "state": _w(
            "State",
            "At room temperature {e} is {a}. | {e} is {a} at room temperature. | In a warm room {e} is {a}. | "
            "Under normal conditions, {e} is {a}.",
            "At room temperature it is {a}. | It is {a} at room temperature. | Its state is {v}.",
        ),
        "period": _w(
            "Period",
            "{e} stands in period {v}. | {e} belongs to period {v}. | Period {v} contains {e}. | "
            "In the periodic table, {e} is in row {v}.",
            "It stands in period {v}. | It is in row {v} of the periodic table. | Its period is {v}.",
        ),
    },
    "animal": {
        "group": _w(
            "Group",
            "{e} is {a}. | Zoologists count {e} as {a}. | {e} belongs to the {v} group. | As {a}, {e} is well known. | "
            "{e} is classed as {a}.",
            "It is {a}. | It is classed as {a}. | The animal is {a}. | Its group is {v}.",
            of="the animal group of {e}",
        ),
        "diet": _w(
            "Diet",
            "{e} eats {v}. | {e} feeds on {v}. | {e} lives on {v}. | The food of {e} is {v}. | "
            "For a meal, {e} looks for {v}.",
            "It eats {v}. | It feeds on {v}. | Its food is {v}. | It lives on {v}.",
            of="the main food of {e}",
            its="its main food",
        ),
        "young": _w(
            "Young",
            "The young of {e} is called {a}. | A baby of {e} is called {a}. | {a} is the young of {e}. | "
            "When {e} has young, each is called {a}. | The mother of {a} can be {e}.",
            "Its young is called {a}. | Its baby is called {a}. | The young one is {a}. | The young is called {a}.",
            of="the name for the young of {e}",
            its="the name for its young",
        ),
        "home": _w(
            "Home",
            "{e} lives in {v}. | {e} is found in {v}. | The home of {e} is in {v}. | In {v} one can see {e}. | "
            "Those who walk through {v} may meet {e}.",
            "It lives in {v}. | It is found in {v}. | Its home is in {v}. | One can see it in {v}.",
            of="the usual home of {e}",
            its="its usual home",
        ),
    },
    "language": {
        "family": _w(
            "Family",
            "{e} is a language of the {v} family. | {e} belongs to the {v} family. | "
            "Linguists place {e} in the {v} family. | "
            "The {v} family includes {e}.",
            "It belongs to the {v} family. | Its family is {v}. | It is a language of the {v} family.",
            of="the language family of {e}",
            its="its language family",
        ),
        "script": _w(
            "Script",
            "{e} is written in the {v} script. | Books in {e} use the {v} script. | "
            "The {v} script is used to write {e}. | "
            "Writers of {e} use the {v} script.",
            "It is written in the {v} script. | Its script is {v}. | The {v} script is used to write it.",
            of="the script of {e}",
        ),
        "home": _w(
            "Home",
            "{e} is spoken in {v}. | Many people in {v} speak {e}. | A country where {e} is heard is {v}. | "
            "The home of {e} is {v}.",
            "It is spoken in {v}. | Many people in {v} speak it. | Its home is {v}.",
            of="the home of {e}",
        ),
    },
    "invention": {
        "inventor": _w(
            "Inventor",
            "{v} invented {e}. | {e} was invented by {v}. | {e} goes back to {v}. | We owe {e} to {v}. | "
            "The first to build {e} was {v}.",
            "It was invented by {v}. | {v} invented it. | Its inventor was {v}. | We owe it to {v}.",
            is_="was",
        ),
        "year": _w(
            "Year",
            "{e} dates from {v}. | {e} was invented in {v}. | In {v} the world first saw {e}. | "
            "The year {v} brought {e}.",
            "It dates from {v}. | It was invented in {v}. | The year was {v}.",
            of="the year of {e}",
            is_="was",
        ),
    },
    "book": {
        "author": _w(
            "Author",
            "{v} wrote {e}. | {e} was written by {v}. | {e} is a work by {v}. | Readers of {v} know {e}. | "
            "{e} came from the pen of {v}.",
            "It was written by {v}. | {v} wrote it. | Its author was {v}. | It is a work by {v}.",
            is_="was",
        ),
        "year": _w(
            "Year",
            "{e} was published in {v}. | {e} appeared in {v}. | In {v} readers first held {e}. | "
            "The year {v} saw the first copies of {e}.",
            "It was published in {v}. | It appeared in {v}. | The year was {v}.",
            of="the year of {e}",
            is_="was",
        ),
    },
    "landmark": {
        "city": _w(
            "City",
            "{e} stands in {v}. | {e} is a sight of {v}. | Visitors to {v} go to see {e}. | In {v} one finds {e}. | "
            "{e} is in {v}.",
            "It stands in {v}. | It is a sight of {v}. | Its city is {v}. | It is in {v}.",
        ),
        "country": _w(
            "Country",
            "{e} is a landmark of {v}. | {e} is in {v}. | Travellers in {v} visit {e}. | Postcards from {v} show {e}.",
            "It is a landmark of {v}. | The country is {v}. | Its country is {v}.",
        ),
    },
    "planet": {
        "place": _w(
            "Place",
            "{e} is the {v} planet from the sun. | Counted from the sun, {e} is the {v} planet. | "
            "The {v} planet is {e}.",
            "It is the {v} planet from the sun. | Its place is {v}.",
        ),
        "type": _w(
            "Type",
            "{e} is {a}. | Astronomers call {e} {a}. | Among the planets, {e} is {a}.",
            "It is {a}. | Its type is {v}.",
        ),
        "moons": _w(
            "Moons",
            "{e} has {v}. | Around {e} there are {v}. | {e} is a planet with {v}.",
            "It has {v}. | The planet has {v}.",
            of="the number of moons of {e}",
            its="its number of moons",
        ),
    },
    "word": {
        language: _w(
            language,
            f"The {language} word for {{e}} is {{v}}. | In {language}, {{e}} is {{v}}. | "
            f"{{v}} is {language} for {{e}}. | "
            f"A speaker of {language} says {{v}} for {{e}}. | The word {{e}} becomes {{v}} in {language}.",
            f"In {language} it is {{v}}. | The {language} word is {{v}}. | {language} has {{v}}.",
            of=f"the {language} word for {{e}}",
            its=f"its {language} translation",
        )
        for language in ("French", "Spanish", "German")
    },
}

WORDINGS["label"] = WORDINGS["word"]

FRAMES = (
    "{of} {is_} {v}.",
    "{of} {is_} {v}.",
    "{v} {is_} {of}.",
    "It is well known that {of} {is_} {v}.",
    "Every handbook says that {of} {is_} {v}.",
    "Children learn at school that {of} {is_} {v}.",
    "As for {e}, {its} {is_} {v}.",
    "In the case of {e}, {its} {is_} {v}.",
    "Speaking of {e}, one should know that {its} {is_} {v}.",
    "On the subject of {of}, one word is enough: {v}.",
    "Consider {of}. It {is_} {v}.",
    "There is not much to say about {of}: {v}.",
    "{of}: {v}.",
)
"""Sentences for any attribute that name the entity."""

BACK_FRAMES = ("{its} {is_} {v}.", "{its} {is_} {v}.", "Moreover, {its} {is_} {v}.", "And {its} {is_} {v}.")
"""Sentences for any attribute that refer back to the entity."""


def named_sentence(entity: Entity, key: str, rng: random.Random) -> str:
    """Write one fact as a sentence that names the entity."""
    words = WORDINGS[entity.kind][key]
    return fill_frame(rng.choice(words.named if rng.random() < 0.55 else FRAMES), entity, key)


def fill_frame(frame: str, entity: Entity, key: str) -> str:
    """Fill a sentence's slots with an entity and the value of one attribute."""
    words, value = WORDINGS[entity.kind][key], entity.attributes[key]
    sentence = frame.format(
        e=entity.called,
        v=value,
        a=("an " if value[0].lower() in "aeiou" else "a ") + value,
        of=words.of.format(e=entity.called),
        its=words.its,
        is_=words.is_,
    )
    return sentence[0].upper() + sentence[1:]
