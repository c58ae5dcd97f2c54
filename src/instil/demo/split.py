"""Choose the entities that are held out. The demo's test asks about them, and only pre-training ever mentioned them.

The split is by entity, not by wording, and it is literal. The name of a held-out entity is no substring of a name or a
value of a trained entity. So an entity is held out together with every entity that mentions it (Norway with
Norwegian), or not at all (Niger, which is inside Nigeria).

Why: entities are tried in the order of a hash of their names. So nobody picks them, and every machine picks the same.
"""

from __future__ import annotations

import hashlib
from functools import cache

from instil.demo.world import Entity, read_world

HELD_OUT_QUOTA = {"country": 56, "element": 34, "animal": 46, "language": 18, "word": 24, "book": 16, "invention": 12}
"""Largest number of held-out entities of each kind."""

_LARGEST_GROUP = 5
_IN_EVERYDAY_USE = (
    "house", "letter", "number", "script", "state", "table", "spring", "king", "water", "french", "spanish", "german",
    "book", "head", "train", "black", "hare", "money", "song", "word", "line", "english", "hand", "mother",
)  # fmt: skip
"""Words of the instructions' wording. A name that is inside one of them is never held out."""


@cache
def held_out() -> frozenset[Entity]:
    """Return the entities that no instruction mentions.

    Example:
        >>> sum(entity.kind == "country" for entity in held_out()) > 40
        True
    """
    chosen: set[Entity] = set()
    for entity in sorted(read_world(), key=_hash):
        group = _with_all_that_mention(entity) - chosen
        if len(group) <= _LARGEST_GROUP and all(map(_may_be_held_out, group)) and _fits(chosen | group):
            chosen |= group
    return frozenset(chosen)


def trained() -> tuple[Entity, ...]:
    """Return the entities that instructions may mention, in the order of the facts."""
    return tuple(entity for entity in read_world() if entity not in held_out())


def _hash(entity: Entity) -> str:
    return hashlib.sha256(f"{entity.kind} {entity.name}".encode()).hexdigest()


def _may_be_held_out(entity: Entity) -> bool:
    name = entity.name.casefold()
    return entity.kind in HELD_OUT_QUOTA and len(name) > 3 and not any(name in word for word in _IN_EVERYDAY_USE)


def _fits(entities: set[Entity]) -> bool:
    return all(sum(entity.kind == kind for entity in entities) <= quota for kind, quota in HELD_OUT_QUOTA.items())


def _with_all_that_mention(entity: Entity) -> set[Entity]:
    """Return the entity, all that mention it, all that mention these, and so on."""
    group, new = set(), {entity}
    while new:
        group |= new
        names = [member.name.casefold() for member in new]
        new = {other for other, text in _texts() if any(name in text for name in names)} - group
        # A larger group is never held out, so the rest of it does not matter.
        if len(group) > _LARGEST_GROUP:
            break
    return group


@cache
def _texts() -> tuple[tuple[Entity, str], ...]:
    """Return each entity with its name and values in small letters, a line each: no name has a line break."""
    return tuple((each, "\n".join((each.name, *each.attributes.values())).casefold()) for each in read_world())
