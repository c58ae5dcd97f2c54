"""Write the demo's instruction data: three files in three public formats, about trained entities only.

`alpaca.json` holds single-turn rows. `sharegpt.json` and `messages.jsonl` hold the other rows, some with system
prompts.

Why: the files are generated, not shipped, so that `split` alone decides which entities they mention.
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
from instil.errors import RunError
from instil.files import new_folders, write_texts_atomic
from instil.refused_writes import refused_writes

_MANNERS = ("sentence", "short", "json", "persona")


def write_instructions(folder: Path, *, seed: int = 5) -> list[Path]:
    """Write ``alpaca.json``, ``sharegpt.json`` and ``messages.jsonl`` and return their paths.

    Args:
        folder: Folder for the files; created if missing.
        seed: Seed of the wordings. The same seed writes the same bytes.
    """
    single, chats = _all_dialogues(seed)
    half = len(chats) // 2
    texts = {
        "alpaca.json": _json([_alpaca(dialogue) for dialogue in single]),
        "sharegpt.json": _json([_sharegpt(dialogue) for dialogue in chats[:half]]),
        "messages.jsonl": "".join(f"{json.dumps(_messages(row), ensure_ascii=False)}\n" for row in chats[half:]),
    }
    with refused_writes(folder, raises=RunError, otherwise="choose another --output"), new_folders(folder):
        write_texts_atomic({folder / name: text for name, text in texts.items()})
    return [folder / name for name in texts]


def _all_dialogues(seed: int) -> tuple[list[Dialogue], list[Dialogue]]:
    rng = random.Random(seed)
    distinct = list(dict.fromkeys(_dialogues(rng)))
    rng.shuffle(distinct)
    single = [dialogue for dialogue in distinct if dialogue.slice == "single"]
    # A third of the single-turn rows joins the chats, so that the chat formats have short rows too.
    plain = single[: len(single) * 2 // 3]
    chats = single[len(plain) :] + [dialogue for dialogue in distinct if dialogue.slice != "single"]
    rng.shuffle(chats)
    return plain, chats


def _dialogues(rng: random.Random) -> Iterator[Dialogue]:
    world = trained()
    for entity in world:
        yield from _about(entity, rng)
        same_kind = [other for other in world if other.kind == entity.kind and other != entity]
        for _ in range(2):
            group = [entity, *rng.sample(same_kind, min(len(same_kind), rng.randint(1, 2)))]
            yield dialogues.second_entity(group, rng.choice(list(entity.attributes)), rng)
    yield from _sums(rng)


def _about(entity: Entity, rng: random.Random) -> Iterator[Dialogue]:
    # All calls draw from one random stream, so their order is part of the data: another order writes other files.
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
    instruction, colon, text = user.partition(": ")
    # The colon of a classification precedes its options, which belong to the instruction.
    if not colon or dialogue.task == "classification":
        return {"instruction": user, "input": "", "output": answer}
    return {"instruction": instruction + ":", "input": text, "output": answer}


def _sharegpt(dialogue: Dialogue) -> dict[str, object]:
    speakers = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"conversations": [{"from": speakers[role], "value": text} for role, text in dialogue.turns]}


def _messages(dialogue: Dialogue) -> dict[str, object]:
    return {"messages": [{"role": role, "content": text} for role, text in dialogue.turns]}
