"""Did the model see the test in training? Overlap of the evaluation prompts with the run's training data.

Two measures: prompts that stand in the training data word for word, and prompts most of whose word 8-grams do. Words are
compared without case and punctuation. Questionable on purpose: short prompts (fewer than 8 words) count only where the whole
prompt is the same, for their few words occur everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from instil.conversation import Conversation
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.sources.rows import parse_row
from instil.errors import DataError
from instil.evaluation.intervals import Interval, share_interval
from instil.generation.engine import text_of
from instil.generation.prompts import Prompt
from instil.preparation.chunks import Input, draw_rows, input_of
from instil.preparation.split import content_hash, held_out
from instil.recipe import Recipe, Source

GRAM = 8
SHARE = 0.7
MAX_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Contamination:
    """Overlap with the training data.

    Attributes:
        same: Share of prompts whose question stands in the training data word for word; n is 0 where there was nothing to
            compare with.
        overlapping: Share of prompts at least 70% of whose 8-grams stand there (those that are the same included).
        trained_conversations: Conversations looked through.
        places: Places of the first prompts that overlap.
        not_compared: Why a source of the training data could not be read, one line each.
    """

    same: Interval
    overlapping: Interval
    trained_conversations: int
    places: tuple[str, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The result as one sentence.

        Example:
            >>> half = share_interval(1, 2)
            >>> Contamination(half, half, 7, ()).said
            'Of 2 prompts 50.0% stand word for word in the 7 training conversations, 50.0% overlap in most of their word 8-grams.'
        """
        if not self.same.n:
            return "Not measured: none of the training data could be read."
        return (
            f"Of {self.same.n} prompts {self.same.value:.1%} stand word for word in the {self.trained_conversations:,} "
            f"training conversations, {self.overlapping.value:.1%} overlap in most of their word 8-grams."
        )


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
    num_compared = len(prompts) if count else 0
    return Contamination(
        share_interval(sum(same), num_compared),
        share_interval(sum(overlapping), num_compared),
        count,
        tuple(places[:MAX_SHOWN]),
    )


def overlap_with_training(prompts: Sequence[Prompt], recipe: Recipe) -> Contamination:
    """Compare prompts with what a recipe trains on; sources that are gone are named in the result."""
    missing: list[str] = []
    found = contamination(prompts, trained_conversations(recipe, on_missing=missing.append))
    return replace(found, not_compared=tuple(missing))


def trained_conversations(
    recipe: Recipe, *, on_missing: Callable[[str], object] = lambda _: None
) -> Iterator[Conversation]:
    """Give the conversations that a recipe trains on: the rows that it draws, without those that fall to the held-out side.

    Args:
        recipe: The recipe of a run; its sources are read where they are now.
        on_missing: Called with the reason for each source that cannot be read.
    """
    data = recipe.data
    options = ReadOptions({}, data.prompt_completion)
    found: list[Input] = []
    hashes: list[int] = []
    for number, source in enumerate(data.sources):
        try:
            drawn = draw_rows(_input(source), seed=recipe.training.seed + number)
            hashes += [content_hash(row) for row in _rows(drawn, options)]
        except DataError as error:
            on_missing(str(error))
            continue
        found.append(drawn)
    values = np.array(hashes, dtype=np.uint64)
    share = 0.0 if data.heldout else float(data.heldout_share)
    aside = set(values[held_out(values, np.ones(len(values), bool), share=share, maximum=data.heldout_max)].tolist())
    for each in found:
        for row in _rows(each, options):
            if content_hash(row) not in aside:
                yield from row


def _input(source: Source) -> Input:
    if source.path == "-":
        raise DataError("-: the run read this source from standard input; it is not to be had any more")
    try:
        return input_of(source)
    except DataError as error:
        raise DataError(
            f"{str(error).removesuffix('.')}, or start from the folder in which the run was started"
        ) from None


def _rows(found: Input, options: ReadOptions) -> Iterator[Sequence[Conversation]]:
    """Give the conversations of every row that can be read."""
    options = replace(options, columns=found.settings.columns)
    for place, raw in found.taken():
        try:
            yield read_row(parse_row(raw, place), place, format_name=found.settings.format, options=options)[1]
        except DataError:
            continue


def _grams(words: Sequence[str]) -> set[int]:
    return {hash(tuple(words[at : at + GRAM])) for at in range(len(words) - GRAM + 1)}


def _share(words: Sequence[str], seen: set[int]) -> float:
    grams = _grams(words)
    return sum(gram in seen for gram in grams) / len(grams) if grams else 0.0


def _question(conversation: Conversation) -> str:
    asked = [message for message in conversation.messages if message.role == "user"]
    return text_of(asked[-1]) if asked else ""
