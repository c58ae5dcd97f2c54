"""Notes: fact after fact as ``the capital of Norway … Oslo``, with anything between what is meant and what it is.

The second stage of pre-training consists half of these. In running sentences a value stands right behind its verb; here
the model must look back, past filler words, for the attribute and the entity that are meant, also through ``its`` and
``the same of``. That is what answering needs, and it is still no question: nothing is asked, and no note ends a line
with a question mark.
"""

from __future__ import annotations

import random

from instil.demo.wording import WORDINGS
from instil.demo.world import Entity, entities

_OPENINGS = (
    "", "", "Note: ", "Remember ", "To begin with, ", "Here stands ", "A word on ", "Next comes ",
    "I was told what to write for ", "They know which word belongs to ", "She wrote down ", "He could not forget ",
    "Make a note of ", "Today we learn ", "What matters is ", "One may want to know ",
)  # fmt: skip
_FILLERS = (
    "", "", "", ", in short", ", as the book says", ", in a word", ", and that is easy to remember", " (see the list)",
    ", written below", ", as everyone in the class could say", ", which is well known", " and nothing else",
    ", told by an old friend on a rainy day", ", to be brief", ", as the teacher said one morning",
)  # fmt: skip
_MARKS = (": ", " = ", " - ", " -> ", ". It {is_} ", " | ", ":\n", " =\n", " ...\n", ", namely ", ". In one word, ")
_BREAKS = ("\n", "\n", "; ", "\n\n", " / ")


def note(entity: Entity, rng: random.Random) -> str:
    """Write one to four notes, the later ones mostly referring back.

    Example:
        >>> norway = next(each for each in entities("country") if each.name == "Norway")
        >>> "Norway" in note(norway, random.Random(0))
        True
    """
    keys = rng.sample(list(entity.attributes), len(entity.attributes))
    mark, parts = rng.choice(_MARKS), []
    parts.append(_note(rng.choice(_OPENINGS) + _of(entity, keys[0]), entity, keys[0], mark=mark, rng=rng))
    current, key = entity, keys[0]
    for number in range(1, rng.randint(1, 4)):
        if rng.random() < 0.4:
            current = rng.choice([each for each in entities(entity.kind) if each != current])
            start = rng.choice(("the same of {e}", "that of {e}", "and of {e}", "for {e}", "{e}")).format(
                e=current.called
            )
        else:
            key = keys[number % len(keys)]
            start = rng.choice(("", "and ", "then ", "also ", "what {is_} ")) + WORDINGS[current.kind][key].its
        parts.append(_note(start, current, key, mark=mark, rng=rng))
    return rng.choice(_BREAKS).join(parts)


def _of(entity: Entity, key: str) -> str:
    return WORDINGS[entity.kind][key].of.format(e=entity.called)


def _note(start: str, entity: Entity, key: str, *, mark: str, rng: random.Random) -> str:
    is_ = WORDINGS[entity.kind][key].is_
    filler = rng.choice(_FILLERS)
    return f"{start}{filler}{mark}".replace("{is_}", is_) + entity.attributes[key]
