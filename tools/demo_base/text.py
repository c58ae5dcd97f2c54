"""Write the text on which the demo's base model is pre-trained: facts in many wordings, and some other text.

`documents` yields paragraphs about one entity, comparisons, cards, tables, lists, JSON, sums, translations, stories and
code. One seed decides all of it.

Why: the text contains no question. The base model should know the facts and continue text. It learns to answer from
the instruction data alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

from tools.demo_base.notes import copies, headed, note
from tools.demo_base.scraps import code_snippet, story, sums

from instil.demo.wording import BACK_FRAMES, WORDINGS, fill_frame, named_sentence
from instil.demo.world import Entity, entities, read_world

_WEIGHTS = {"country": 4.0, "element": 4.2, "animal": 3.6, "language": 3.0, "label": 1.5}
"""How often documents are about an entity of a kind; 2 for the other kinds."""


def documents(seed: int, *, notes: float = 0.0, entries: bool = False) -> Iterator[str]:
    """Yield documents without end, the same documents for the same seed.

    Args:
        seed: Seed of every choice.
        notes: Share of notes among the documents about entities; 0 in the first stage of pre-training.
        entries: Whether half of the notes have headings and there is practice in copying; only in the last stage.

    Example:
        >>> a, b = documents(1), documents(1)
        >>> [next(a) for _ in range(5)] == [next(b) for _ in range(5)]
        True
    """
    rng = random.Random(seed)
    world = read_world()
    weights = [_WEIGHTS.get(entity.kind, 2.0) for entity in world]
    makers = (paragraph, facts_of_many, comparison, card, table, grouped, as_json, bullets)
    shares = (30, 12, 10, 6, 6, 3, 16, 6) if entries else (38, 16, 12, 8, 6, 3, 4, 3)
    note_makers = (note, headed) if entries else (note,)
    while True:
        # A share of the documents has no facts: the model should stay one of text.
        if rng.random() < (0.2 if entries else 0.12):
            yield rng.choices((sums, story, code_snippet, copies), (6, 2, 2, 8 if entries else 0))[0](rng)
            continue
        maker = rng.choice(note_makers) if notes and rng.random() < notes else rng.choices(makers, shares)[0]
        yield maker(rng.choices(world, weights)[0], rng)


def paragraph(entity: Entity, rng: random.Random) -> str:
    """Write about one entity: all or most attributes in any order, named first and mostly referred back to later."""
    keys = _some_keys(entity, rng)
    sentences = [named_sentence(entity, keys[0], rng)]
    for key in keys[1:]:
        sentence = back_sentence if rng.random() < 0.7 else named_sentence
        sentences.append(sentence(entity, key, rng))
    return " ".join(sentences)


def facts_of_many(entity: Entity, rng: random.Random) -> str:
    """Write single facts about several entities of any kind, one after another."""
    group = [entity, *rng.sample(read_world(), rng.randint(2, 5))]
    return " ".join(named_sentence(member, rng.choice(list(member.attributes)), rng) for member in group)


def comparison(entity: Entity, rng: random.Random) -> str:
    """Compare several entities of a kind in one attribute: ``that of Norway is Oslo``."""
    key = rng.choice(list(entity.attributes))
    words = WORDINGS[entity.kind][key]
    first = named_sentence(entity, key, rng)
    parts = []
    for other in _companions(entity, rng, rng.randint(1, 3)):
        value = other.attributes[key]
        frame = rng.choice(
            (
                "that of {e} {is_} {v}",
                "while {of} {is_} {v}",
                "for {e} it {is_} {v}",
                "and {of} {is_} {v}",
                "in the case of {e} it {is_} {v}",
            )
        )
        parts.append(frame.format(e=other.called, v=value, of=words.of.format(e=other.called), is_=words.is_))
    return first[:-1] + ", " + ", ".join(parts) + "."


def card(entity: Entity, rng: random.Random) -> str:
    """Write a card: the name, then a line ``Label: value`` for each attribute."""
    lines = [f"{WORDINGS[entity.kind][key].label}: {entity.attributes[key]}" for key in _some_keys(entity, rng)]
    head = rng.choice(("{e}", "Name: {e}", "About {e}:", "Facts about {e}")).format(e=entity.called)
    return "\n".join([head, *lines]) if rng.random() < 0.6 else head.rstrip(":") + ". " + ". ".join(lines) + "."


def table(entity: Entity, rng: random.Random) -> str:
    """Write one attribute of several entities as lines or as one running list."""
    key = rng.choice(list(entity.attributes))
    label = WORDINGS[entity.kind][key].label
    members = [entity, *_companions(entity, rng, rng.randint(3, 6))]
    rows = [(member.name, member.attributes[key]) for member in members]
    style = rng.randrange(4)
    if style == 0:
        return f"{label} of {KINDS_PLURAL[entity.kind]}\n" + "\n".join(f"{name}: {value}" for name, value in rows)
    if style == 1:
        return f"name,{key}\n" + "\n".join(f"{name},{value}" for name, value in rows)
    if style == 2:
        return f"{label}: " + "; ".join(f"{name}, {value}" for name, value in rows) + "."
    return f"{key} | name\n" + "\n".join(f"{value} | {name}" for name, value in rows)


def grouped(entity: Entity, rng: random.Random) -> str:
    """List entities that share a value, as in ``Countries with continent Europe: France, Norway``."""
    key = rng.choice(list(entity.attributes))
    value = entity.attributes[key]
    same = [other for other in entities(entity.kind) if other.attributes[key] == value and other != entity]
    names = [entity.name, *(other.name for other in rng.sample(same, min(len(same), rng.randint(1, 5))))]
    rng.shuffle(names)
    head = f"{KINDS_PLURAL[entity.kind]} with {WORDINGS[entity.kind][key].label.lower()} {value}"
    if rng.random() < 0.5:
        return f"{head}: {', '.join(names)}."
    return f"{head}:\n" + "\n".join(f"- {name}" for name in names)


def as_json(entity: Entity, rng: random.Random) -> str:
    """Write the entity as a line of JSON, alone or after sentences with the same facts."""
    keys = _some_keys(entity, rng)
    record = json.dumps({entity.kind: entity.name} | {key: entity.attributes[key] for key in keys}, ensure_ascii=False)
    if rng.random() < 0.5:
        return record
    return " ".join(named_sentence(entity, key, rng) for key in keys) + "\n" + record


def bullets(entity: Entity, rng: random.Random) -> str:
    """Write attributes as a bulleted list under a heading that names them."""
    keys = _some_keys(entity, rng)
    head = ", ".join(WORDINGS[entity.kind][key].label.lower() for key in keys)
    return f"{entity.called}: {head}\n" + "\n".join(f"- {entity.attributes[key]}" for key in keys)


def back_sentence(entity: Entity, key: str, rng: random.Random) -> str:
    """Write one fact as a sentence that refers back to the entity named before."""
    words = WORDINGS[entity.kind][key]
    return fill_frame(rng.choice(words.back if rng.random() < 0.7 else BACK_FRAMES), entity, key)


KINDS_PLURAL = {
    "country": "Countries",
    "element": "Elements",
    "animal": "Animals",
    "language": "Languages",
    "invention": "Inventions",
    "book": "Books",
    "landmark": "Landmarks",
    "planet": "Planets",
    "word": "Words",
    "label": "Labels",
}


def _some_keys(entity: Entity, rng: random.Random) -> list[str]:
    keys: Sequence[str] = list(entity.attributes)
    return rng.sample(keys, len(keys) if rng.random() < 0.6 else rng.randint(1, len(keys)))


def _companions(entity: Entity, rng: random.Random, count: int) -> list[Entity]:
    others = [other for other in entities(entity.kind) if other != entity]
    return rng.sample(others, min(count, len(others)))
