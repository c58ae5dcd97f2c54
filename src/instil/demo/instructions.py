"""Writes the demo's instruction data: three files in three outside formats, about trained entities only.

`alpaca.json` holds the single-turn rows, `sharegpt.json` and `messages.jsonl` the rest, both with system prompts, as
people have them on disk. The files are generated rather than shipped, so that the split in `split` is the only place
that decides what they may mention.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from instil.demo import dialogues
from instil.demo.asking import CHOICES
from instil.demo.dialogues import Dialogue
from instil.demo.questions import held_out_sum
from instil.demo.split import trained
from instil.demo.world import Entity

_MANNERS = ("sentence", "short", "json", "persona")


def write_instructions(folder: Path, *, seed: int = 5) -> list[Path]:
    """Write ``alpaca.json``, ``sharegpt.json`` and ``messages.jsonl`` and return their paths.

    Args:
        folder: Where to write; made if missing.
        seed: Seed of the wordings; the files are the same, byte for byte, for the same seed.
    """
    single, chats = _all_dialogues(seed)
    half = len(chats) // 2
    texts = {
        "alpaca.json": _json([_alpaca(each) for each in single]),
        "sharegpt.json": _json([_sharegpt(each) for each in chats[:half]]),
        "messages.jsonl": "".join(f"{json.dumps(_messages(each), ensure_ascii=False)}\n" for each in chats[half:]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _all_dialogues(seed: int) -> tuple[list[Dialogue], list[Dialogue]]:
    rng = random.Random(seed)
    found = list(dict.fromkeys(_dialogues(rng)))
    rng.shuffle(found)
    single = [each for each in found if each.slice == "single"]
    plain = single[: len(single) * 2 // 3]
    chats = single[len(plain) :] + [each for each in found if each.slice != "single"]
    rng.shuffle(chats)
    return plain, chats


def _dialogues(rng: random.Random) -> Iterator[Dialogue]:
    world = trained()
    for entity in world:
        yield from _about(entity, rng)
        same_kind = [each for each in world if each.kind == entity.kind and each != entity]
        for _ in range(2):
            crowd = [entity, *rng.sample(same_kind, min(len(same_kind), rng.randint(1, 2)))]
            yield dialogues.second_entity(crowd, rng.choice(list(entity.attributes)), rng)
    yield from _sums(rng)


def _about(entity: Entity, rng: random.Random) -> Iterator[Dialogue]:
    keys = list(entity.attributes)
    for key in keys:
        yield dialogues.ask(entity, key, rng)
        yield dialogues.ask(entity, key, rng)
        if (entity.kind, key) in CHOICES:
            yield dialogues.classify(entity, key, rng)
        yield dialogues.with_system(entity, key, rng, manner=rng.choice(_MANNERS))
    for key in dialogues.translatable_keys(entity):
        yield dialogues.with_system(entity, key, rng, manner="language")
    for _ in range(3):
        yield dialogues.second_attribute(entity, rng.sample(keys, min(len(keys), rng.randint(2, 3))), rng)
    yield dialogues.extract(entity, rng.sample(keys, 2), rng)
    yield dialogues.make_list(entity, rng.sample(keys, rng.randint(2, min(3, len(keys)))), rng)
    yield dialogues.code(entity, rng.choice(keys), rng)


def _sums(rng: random.Random) -> Iterator[Dialogue]:
    for a in range(21):
        for b in range(21):
            if not held_out_sum(a, b) and rng.random() < 0.6:
                yield dialogues.add(a, b, rng)
            if not held_out_sum(a, b) and 0 < a <= 10 and 0 < b <= 10:
                yield dialogues.multiply(a, b, rng)


def _json(rows: list[dict[str, object]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _alpaca(dialogue: Dialogue) -> dict[str, object]:
    (_, user), (_, answer) = dialogue.turns
    instruction, colon, given = user.partition(": ")
    if not colon or dialogue.task == "classification":
        return {"instruction": user, "input": "", "output": answer}
    return {"instruction": instruction + ":", "input": given, "output": answer}


def _sharegpt(dialogue: Dialogue) -> dict[str, object]:
    speakers = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"conversations": [{"from": speakers[role], "value": text} for role, text in dialogue.turns]}


def _messages(dialogue: Dialogue) -> dict[str, object]:
    return {"messages": [{"role": role, "content": text} for role, text in dialogue.turns]}
