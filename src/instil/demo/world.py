"""The facts that the demo's model knows: entities with true attributes, read from the files in ``facts/``.

Everything of the demo starts here: `text` words the facts for pre-training, `questions` asks about them, and `split`
decides which entities are never trained on. The files are the project's own compilation. Questionable on purpose: an
attribute has one value. Where the world has several (a country with four official languages) the most common one is
given, for an exact-match score needs a single right answer.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from instil.errors import DataError

KINDS = {
    "country": "countries",
    "element": "elements",
    "animal": "animals",
    "language": "languages",
    "invention": "inventions",
    "book": "books",
    "landmark": "landmarks",
    "planet": "planets",
    "word": "words",
    "label": "labels",
}
"""Every kind of entity and the file in ``facts/`` that holds it."""

_WITH_ARTICLE = ("Netherlands", "Philippines", "Maldives", "Gambia", "Comoros", "Seychelles", "Solomon Islands")
_WITHOUT_ARTICLE = (
    "Big Ben",
    "Marina Bay Sands",
    "Christ the Redeemer",
    "Wawel Castle",
    "Edinburgh Castle",
    "Wat Arun",
)


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing that there are facts about.

    Attributes:
        kind: A key of `KINDS`.
        name: Its name, the same in every text: ``France``, ``iron``, ``lion``.
        attributes: Name of the attribute → its value, in the order of the file.
    """

    kind: str
    name: str
    attributes: Mapping[str, str] = field(hash=False)

    @property
    def called(self) -> str:
        """The name as it stands inside a sentence, with the article where English wants one.

        Example:
            >>> Entity("animal", "lion", {}).called, Entity("country", "Gambia", {}).called, Entity("book", "Dune", {}).called
            ('the lion', 'the Gambia', 'Dune')
        """
        article = (
            self.kind in ("animal", "invention", "landmark") and self.name not in _WITHOUT_ARTICLE
        ) or self.name in _WITH_ARTICLE
        return f"the {self.name}" if article else self.name


@cache
def read_world() -> tuple[Entity, ...]:
    """Read all entities, in the order of `KINDS` and of the files.

    Raises:
        DataError: If a row lacks a value.

    Example:
        >>> [entity.attributes["capital"] for entity in read_world() if entity.name == "Norway"]
        ['Oslo']
    """
    return tuple(entity for kind in KINDS for entity in _read_kind(kind))


def entities(kind: str) -> tuple[Entity, ...]:
    """Give the entities of one kind.

    Example:
        >>> [planet.name for planet in entities("planet")][:2]
        ['Mercury', 'Venus']
    """
    return tuple(entity for entity in read_world() if entity.kind == kind)


def _read_kind(kind: str) -> list[Entity]:
    path = resources.files("instil.demo") / "facts" / f"{KINDS[kind]}.csv"
    found = []
    for number, row in enumerate(csv.DictReader(path.read_text(encoding="utf-8").splitlines()), start=2):
        name, *values = row.values()
        if not all(isinstance(value, str) and value.strip() for value in (name, *values)):
            raise DataError(f"{path}:{number}: an empty value; every attribute needs one; fill it in or delete the row")
        found.append(Entity(kind, name, {key: value for key, value in row.items() if key != "name"}))
    return found
