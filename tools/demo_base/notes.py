"""Write notes: facts such as ``the capital of Norway … Oslo``, with filler words between the attribute and its value.

Half of the second stage of pre-training consists of notes. In running sentences a value follows its verb directly. In
a note the model has to look back, past filler words, for the attribute and the entity, also through ``its`` and ``the
same of``.

Why: answering needs this ability, and a note teaches it without a question. No line of a note ends with "?".
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

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
    """Write one to four notes; most of the later ones refer back to the entity.

    Example:
        >>> norway = next(country for country in entities("country") if country.name == "Norway")
        >>> "Norway" in note(norway, random.Random(0))
        True
    """
    keys = rng.sample(list(entity.attributes), len(entity.attributes))
    mark, parts = rng.choice(_MARKS), []
    parts.append(_note(rng.choice(_OPENINGS) + _of(entity, keys[0]), entity, keys[0], mark=mark, rng=rng))
    current, key = entity, keys[0]
    for number in range(1, rng.randint(1, 4)):
        if rng.random() < 0.4:
            current = rng.choice([other for other in entities(entity.kind) if other != current])
            start = rng.choice(("the same of {e}", "that of {e}", "and of {e}", "for {e}", "{e}")).format(
                e=current.called
            )
        else:
            key = keys[number % len(keys)]
            start = rng.choice(("", "and ", "then ", "also ", "what {is_} ")) + WORDINGS[current.kind][key].its
        parts.append(_note(start, current, key, mark=mark, rng=rng))
    return rng.choice(_BREAKS).join(parts)


_HEADS = ("On {of}", "{of}", "Entry: {of}", "About {of}.", "{of} and what to write", "# {of}", "{of}, for the record")


def headed(entity: Entity, rng: random.Random) -> str:
    """Write one to three entries: a heading with attribute and entity, then the fact in one of several shapes.

    The shapes repeat parts of the heading: a sentence its noun phrase, JSON the attribute.
    So the model learns to copy from the heading.

    Example:
        >>> norway = next(country for country in entities("country") if country.name == "Norway")
        >>> "Norway" in headed(norway, random.Random(0))
        True
    """
    shape = rng.choice((_value, _value, _sentence, _sentence, _object, _object, _record, _record, _lines, _lines))
    others = [other for other in entities(entity.kind) if other != entity]
    group = [entity, *rng.sample(others, min(len(others), rng.randint(0, 2)))]
    return "\n\n".join(_entry(member, shape, rng) for member in group)


def _entry(entity: Entity, shape: Callable[[Entity, list[str]], str], rng: random.Random) -> str:
    count = rng.randint(2, 3) if shape in (_record, _lines) else 1
    keys = rng.sample(list(entity.attributes), min(count, len(entity.attributes)))
    phrase = f"{', '.join(keys)} of {entity.called}" if count > 1 else _of(entity, keys[0])
    head = rng.choice(_HEADS).format(of=phrase)
    # A record often has its facts in the heading, so that the model learns to extract them.
    if shape is _record and rng.random() < 0.7:
        facts = " ".join(rng.choice(_FACTS).format(of=_of(entity, key), v=entity.attributes[key]) for key in keys)
        head = f"{', '.join([entity.kind, *keys])}: {facts}"
    return f"{head[0].upper()}{head[1:]}{rng.choice(_FILLERS)}\n{shape(entity, keys)}"


_FACTS = ("{of} is {v}.", "{v} is {of}.", "as to {of}, it is {v}.", "for {of} the book has {v}.")


def _value(entity: Entity, keys: list[str]) -> str:
    return entity.attributes[keys[0]]


def _sentence(entity: Entity, keys: list[str]) -> str:
    sentence = f"{_of(entity, keys[0])} {WORDINGS[entity.kind][keys[0]].is_} {entity.attributes[keys[0]]}."
    return sentence[0].upper() + sentence[1:]


def _object(entity: Entity, keys: list[str]) -> str:
    return json.dumps({keys[0]: entity.attributes[keys[0]]}, ensure_ascii=False)


def _record(entity: Entity, keys: list[str]) -> str:
    return json.dumps({entity.kind: entity.name} | {key: entity.attributes[key] for key in keys}, ensure_ascii=False)


def _lines(entity: Entity, keys: list[str]) -> str:
    return "\n".join(f"- {entity.attributes[key]}" for key in keys)


def copies(rng: random.Random) -> str:
    r"""Write names, letters and numbers, then the same again, as practice in copying.

    Example:
        >>> first, again = copies(random.Random(1)).split("\n")[:2]
        >>> first.split(": ")[1] == again.split(": ")[1]
        True
    """
    world = entities(rng.choice(("country", "element", "animal", "language", "word")))
    if rng.random() < 0.6:
        items = [entity.name for entity in rng.sample(world, min(len(world), rng.randint(3, 9)))]
    else:
        items = [
            "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(1, 5)))
            for _ in range(rng.randint(4, 12))
        ]
    first, again = rng.choice((("List", "Copy"), ("Row", "Again"), ("First", "Second"), ("In", "Out")))
    line = rng.choice((", ", " ", "; ")).join(items)
    return f"{first}: {line}\n{again}: {line}" + (f"\n{again}: {line}" if rng.random() < 0.3 else "")


def _of(entity: Entity, key: str) -> str:
    return WORDINGS[entity.kind][key].of.format(e=entity.called)


def _note(start: str, entity: Entity, key: str, *, mark: str, rng: random.Random) -> str:
    is_ = WORDINGS[entity.kind][key].is_
    filler = rng.choice(_FILLERS)
    return f"{start}{filler}{mark}".replace("{is_}", is_) + entity.attributes[key]
