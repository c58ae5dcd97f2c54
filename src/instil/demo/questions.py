"""The demo's test: questions about held-out entities, and the comparison of an answer with its reference.

Every question about a fact is about an entity of `split.held_out`. Sums use pairs of numbers that the instructions
leave out. Scoring is exact match, so references are short.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instil.demo import dialogues
from instil.demo.dialogues import Dialogue, Slice
from instil.demo.split import held_out
from instil.demo.world import Entity

_KINDS = ("country", "country", "element", "element", "animal", "animal", "language", "word")
_MANNERS = ("sentence", "short", "json", "persona", "language")
_COUNTS = {
    "question": 110, "translation": 16, "classification": 24, "extraction": 16, "list": 16, "arithmetic": 12,
    "code": 16, "second_attribute": 50, "second_entity": 30, "system_prompt": 80,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One test question.

    Attributes:
        task: Kind of request: question, classification, extraction, translation, list, arithmetic or code.
        slice: Part of the test that it belongs to.
        messages: (role, text) pairs that end with the user's. Earlier assistant turns are the right answers.
        reference: The right answer.
    """

    task: str
    slice: Slice
    messages: tuple[tuple[str, str], ...]
    reference: str

    @property
    def plain(self) -> str:
        """The question as plain text for a base model: a line for each turn, without the system prompt."""
        return "\n".join(text for role, text in self.messages if role != "system")


def held_out_sum(a: int, b: int) -> bool:
    """Return whether a pair of numbers is kept for the test. A third of the pairs are, in either order.

    Example:
        >>> held_out_sum(3, 4) == held_out_sum(4, 3)
        True
    """
    return (min(a, b) * 7 + max(a, b) * 3) % 3 == 0 and a != b


def held_out_questions(seed: int = 29) -> tuple[Question, ...]:
    """Return the test questions, the same ones for the same seed.

    Example:
        >>> {question.slice for question in held_out_questions()} == {"single", "second_turn", "system_prompt"}
        True
    """
    rng = random.Random(seed)
    by_kind = {kind: sorted((e for e in held_out() if e.kind == kind), key=lambda e: e.name) for kind in set(_KINDS)}
    questions: dict[tuple[tuple[str, str], ...], Question] = {}
    for task, count in _COUNTS.items():
        num_made = 0
        while num_made < count:
            dialogue = _MAKERS[task](by_kind, rng)
            # None: the draw suits no test question. Known messages: the question exists already. Draw again.
            if dialogue is None or dialogue.turns[:-1] in questions:
                continue
            *messages, (_, reference) = dialogue.turns
            questions[tuple(messages)] = Question(dialogue.task, dialogue.slice, tuple(messages), reference)
            num_made += 1
    return tuple(questions.values())


def score(prediction: str, reference: str, *, cut_first_line: bool = False) -> bool:
    r"""Return whether an answer equals the reference, apart from case, white space and a final full stop.

    Args:
        prediction: Text of the model, without its stop token.
        reference: The right answer.
        cut_first_line: Compare only the first line, after leading white space. A base model needs this, because it has
            not learned when to stop.

    Example:
        >>> score(" oslo.", "Oslo"), score("Oslo\nSweden", "Oslo"), score("Oslo\nSweden", "Oslo", cut_first_line=True)
        (True, False, True)
    """
    if cut_first_line:
        prediction = prediction.lstrip().split("\n", 1)[0]
    return _normal(prediction) == _normal(reference)


def _normal(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()


_Entities = dict[str, list[Entity]]


def _one(by_kind: _Entities, rng: random.Random, kinds: Sequence[str] = _KINDS) -> tuple[Entity, list[str]]:
    entity = rng.choice(by_kind[rng.choice(kinds)])
    keys = list(entity.attributes)
    return entity, rng.sample(keys, len(keys))


def _question(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng, _KINDS[:-1])
    return dialogues.ask(entity, keys[0], rng)


def _translation(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng, ("word",))
    return dialogues.ask(entity, keys[0], rng)


def _classification(by_kind: _Entities, rng: random.Random) -> Dialogue:
    kind, key = rng.choice(
        [("country", "continent"), ("element", "category"), ("element", "state"), ("animal", "group")]
    )
    return dialogues.classify(rng.choice(by_kind[kind]), key, rng)


def _extraction(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng)
    return dialogues.extract(entity, keys[:2], rng)


def _list(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng)
    return dialogues.make_list(entity, keys[:2], rng)


def _arithmetic(by_kind: _Entities, rng: random.Random) -> Dialogue | None:
    if rng.random() < 0.5:
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        return dialogues.add(a, b, rng) if held_out_sum(a, b) else None
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    return dialogues.multiply(a, b, rng) if held_out_sum(a, b) else None


def _code(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng, _KINDS[:-1])
    return dialogues.code(entity, keys[0], rng)


def _second_attribute(by_kind: _Entities, rng: random.Random) -> Dialogue:
    entity, keys = _one(by_kind, rng)
    return dialogues.second_attribute(entity, keys[:2], rng)


def _second_entity(by_kind: _Entities, rng: random.Random) -> Dialogue:
    pair = rng.sample(by_kind[rng.choice(_KINDS)], 2)
    return dialogues.second_entity(pair, rng.choice(list(pair[0].attributes)), rng)


def _system_prompt(by_kind: _Entities, rng: random.Random) -> Dialogue | None:
    entity, keys = _one(by_kind, rng, _KINDS[:-1])
    manner = rng.choice(_MANNERS)
    if manner == "language":
        keys = dialogues.translatable_keys(entity)
    return dialogues.with_system(entity, keys[0], rng, manner=manner) if keys else None


_MAKERS: dict[str, Callable[[_Entities, random.Random], Dialogue | None]] = {
    "question": _question,
    "translation": _translation,
    "classification": _classification,
    "extraction": _extraction,
    "list": _list,
    "arithmetic": _arithmetic,
    "code": _code,
    "second_attribute": _second_attribute,
    "second_entity": _second_entity,
    "system_prompt": _system_prompt,
}
