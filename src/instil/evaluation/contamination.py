"""Did the model see the test in training? Overlap of the evaluation prompts with the run's training data.

Two measures: prompts that stand in the training data word for word, and prompts most of whose word 8-grams do. Words are
compared without case and punctuation. Questionable on purpose: short prompts (fewer than 8 words) count only where the whole
prompt is the same, for their few words occur everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from instil.conversation import Conversation
from instil.data.formats.reading import read
from instil.data.mixing import content_hash, is_candidate
from instil.evaluation.intervals import Interval, share_interval
from instil.generation.engine import text_of
from instil.generation.prompts import Prompt
from instil.recipe import Recipe

GRAM = 8
SHARE = 0.7
MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Contamination:
    """Overlap with the training data.

    Attributes:
        same: Share of prompts whose question stands in the training data word for word.
        overlapping: Share of prompts at least 70% of whose 8-grams stand there (those that are the same included).
        trained_conversations: Conversations looked through.
        places: Places of the first prompts that overlap.
    """

    same: Interval
    overlapping: Interval
    trained_conversations: int
    places: tuple[str, ...]


def words_of(text: str) -> list[str]:
    """Give the words of a text as they are compared.

    Example:
        >>> words_of("What's 2+2, please?")
        ['what', 's', '2', '2', 'please']
    """
    return re.findall(r"[^\W_]+", text.casefold())


def contamination(prompts: Sequence[Prompt], trained: Iterable[Conversation]) -> Contamination:
    """Compare prompts with training conversations, which are read once and not kept."""
    asked = [words_of(_question(prompt.conversation)) for prompt in prompts]
    wholes = {" ".join(words) for words in asked if words}
    grams = {gram for words in asked for gram in _grams(words)}
    seen_wholes: set[str] = set()
    seen_grams: set[int] = set()
    count = 0
    for conversation in trained:
        count += 1
        for message in conversation.messages:
            words = words_of(text_of(message))
            whole = " ".join(words)
            if whole in wholes:
                seen_wholes.add(whole)
            seen_grams.update(gram for gram in _grams(words) if gram in grams)
    same = [bool(words) and " ".join(words) in seen_wholes for words in asked]
    overlapping = [is_same or _share(words, seen_grams) >= SHARE for words, is_same in zip(asked, same, strict=True)]
    places = [str(prompt.place) for prompt, overlaps in zip(prompts, overlapping, strict=True) if overlaps]
    return Contamination(
        share_interval(sum(same), len(prompts)),
        share_interval(sum(overlapping), len(prompts)),
        count,
        tuple(places[:MAX_SHOWN]),
    )


def trained_conversations(recipe: Recipe) -> Iterator[Conversation]:
    """Give the conversations that a recipe trains on: its sources without the rows that fall to the held-out side.

    Rows are judged one by one; those beyond ``heldout_max`` are trained, as in preparation.
    """
    data = recipe.data
    share = 0.0 if data.heldout or not data.heldout_max else float(data.heldout_share)
    hashes = sorted(h for c in _source_conversations(recipe) if is_candidate(h := content_hash([c]), share))
    aside = set(hashes[: data.heldout_max])
    for conversation in _source_conversations(recipe):
        if content_hash([conversation]) not in aside:
            yield conversation


def _source_conversations(recipe: Recipe) -> Iterator[Conversation]:
    for source in recipe.data.sources:
        if source.path != "-":
            yield from read(
                source.path,
                source.format,
                columns=source.columns,
                on_bad_row="skip",
                split=source.split,
                subset=source.subset,
                revision=source.revision,
            )


def _grams(words: Sequence[str]) -> set[int]:
    return {hash(tuple(words[at : at + GRAM])) for at in range(len(words) - GRAM + 1)}


def _share(words: Sequence[str], seen: set[int]) -> float:
    grams = _grams(words)
    return sum(gram in seen for gram in grams) / len(grams) if grams else 0.0


def _question(conversation: Conversation) -> str:
    asked = [message for message in conversation.messages if message.role == "user"]
    return text_of(asked[-1]) if asked else ""
