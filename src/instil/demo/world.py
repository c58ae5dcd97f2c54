"""The facts that the demo's model knows: entities with true attributes, read from the files in ``facts/``.

The demo starts here: `wording` puts the facts into sentences, `questions` asks about them, and `split` holds entities
out of training. The files are the project's own compilation.

Why: an attribute has one value, because exact match needs a single right answer. Where the world has several (a country
with four official languages), the files have the most common one.
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
"""Each kind of entity and the name of its file in ``facts/``."""

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
    """A thing that the facts describe.

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
        """The name inside a sentence, with an article where English needs one.

        Example:
            >>> [Entity(*names, {}).called for names in (("animal", "lion"), ("country", "Gambia"), ("book", "Dune"))]
            ['the lion', 'the Gambia', 'Dune']
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
    """Return the entities of one kind.

    Example:
        >>> [planet.name for planet in entities("planet")][:2]
        ['Mercury', 'Venus']
    """
    return tuple(entity for entity in read_world() if entity.kind == kind)


def _read_kind(kind: str) -> list[Entity]:
    path = resources.files("instil.demo") / "facts" / f"{KINDS[kind]}.csv"
    entities_of_kind = []
    for number, row in enumerate(csv.DictReader(path.read_text(encoding="utf-8").splitlines()), start=2):
        name, *values = row.values()
        if not all(isinstance(value, str) and value.strip() for value in (name, *values)):
            raise DataError(
                f"{path}:{number}: a value is empty. Expected one for every attribute. Fill it in, or delete the row."
            )
        entities_of_kind.append(Entity(kind, name, {key: value for key, value in row.items() if key != "name"}))
    return entities_of_kind
