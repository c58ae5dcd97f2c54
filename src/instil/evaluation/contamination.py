"""Contamination: the overlap of the evaluation prompts with the training data of a run.

There are two measures: the share of prompts that occur in the training data word for word, and the share of prompts
most of whose word 8-grams occur there. Case and punctuation are ignored. A script without spaces between words, such
as Chinese, has its characters as words.

Why: a prompt of fewer than 8 words counts only if all of it is the same, since its few words occur everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from instil.conversation import Conversation
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.sources.rows import parse_row
from instil.errors import DataError
from instil.evaluation.intervals import Interval, share_interval
from instil.evaluation.language import SPACELESS
from instil.generation.engine import text_of
from instil.generation.prompts import Prompt
from instil.preparation.cache_key import cache_folder
from instil.preparation.chunks import Input, draw_rows, input_of
from instil.preparation.split import content_hash, held_out
from instil.recipe import Recipe, Source, reading_of
from instil.units import counted

GRAM = 8
SHARE = 0.7
MAX_SHOWN = 10
_WARNED = 3
"""Number of places in the warning."""
_WORD = re.compile(rf"[{SPACELESS}]|[^\W_{SPACELESS}]+")


@dataclass(frozen=True, slots=True)
class Contamination:
    """Overlap with the training data.

    Attributes:
        same: Share of prompts whose question occurs in the training data word for word. Its n is 0 if no training data
            could be read.
        overlapping: Share of prompts with at least 70% of their 8-grams in the training data; includes `same`.
        trained_conversations: Number of training conversations that were compared.
        places: Places of the first overlapping prompts.
        too_short: Number of prompts with fewer than 8 words: they have no 8-gram, so only equal ones overlap.
        not_compared: For each source of the training data that could not be read, the reason.
    """

    same: Interval
    overlapping: Interval
    trained_conversations: int
    places: tuple[str, ...]
    not_compared: tuple[str, ...] = ()
    too_short: int = 0

    @property
    def summary(self) -> str:
        r"""The result as one sentence.

        Example:
            >>> half = share_interval(1, 2)
            >>> print(Contamination(half, half, 7, ()).summary.replace(", ", ",\n"))
            Of 2 prompts 50.0% occur word for word in the 7 training conversations,
            50.0% share most of their word 8-grams with them.
        """
        if not self.same.n:
            return "Not measured: no training data could be read."
        short = (
            f" {counted(self.too_short, 'prompt')} of fewer than {GRAM} words can only be equal."
            if self.too_short
            else ""
        )
        return (
            f"Of {self.same.n} prompts {self.same.value:.1%} occur word for word in the {self.trained_conversations:,} "
            f"training conversations, {self.overlapping.value:.1%} share most of their word 8-grams with them.{short}"
        )

    @property
    def warning(self) -> str:
        r"""What is wrong with the figures if prompts were trained on; empty if none was.

        Example:
            >>> half = share_interval(2, 4)
            >>> print(Contamination(half, half, 7, ("a.jsonl:1",)).warning.replace(". ", ".\n"))
            2 of 4 prompts are in the training data, 2 of them word for word (a.jsonl:1 …).
            The figures are no measure of new prompts.
            Evaluate on rows that were not trained.
        """
        if not self.same.n or not self.overlapping.value:
            return ""
        num_same, num_overlapping = (round(share.value * share.n) for share in (self.same, self.overlapping))
        shown = self.places[:_WARNED]
        rest = " …" if num_overlapping > len(shown) else ""
        verb = "is" if num_overlapping == 1 else "are"
        return (
            f"{num_overlapping:,} of {counted(self.same.n, 'prompt')} {verb} in the training data, {num_same:,} of them "
            f"word for word ({', '.join(shown)}{rest}). The figures are no measure of new prompts. "
            "Evaluate on rows that were not trained."
        )


def words_of(text: str) -> list[str]:
    """Return the words of a text in the form in which they are compared.

    Example:
        >>> words_of("What's 2+2, please?")
        ['what', 's', '2', '2', 'please']
        >>> words_of("GPU是什么？")
        ['gpu', '是', '什', '么']
    """
    return _WORD.findall(text.casefold())


def contamination(prompts: Sequence[Prompt], trained: Iterable[Conversation]) -> Contamination:
    """Compare prompts with training conversations, which are read once and not kept in memory."""
    questions = [words_of(_question(prompt.conversation)) for prompt in prompts]
    # Memory grows with the prompts only: of the training data, just the texts and 8-grams of prompts are remembered.
    question_texts = {" ".join(words) for words in questions if words}
    question_grams = {gram for words in questions for gram in _grams(words)}
    seen_texts: set[str] = set()
    seen_grams: set[int] = set()
    num_conversations = 0
    for conversation in trained:
        num_conversations += 1
        # Messages of every role count, since the model has read all of them.
        for message in conversation.messages:
            words = words_of(text_of(message))
            text = " ".join(words)
            if text in question_texts:
                seen_texts.add(text)
            seen_grams.update(gram for gram in _grams(words) if gram in question_grams)
    same = [bool(words) and " ".join(words) in seen_texts for words in questions]
    overlapping = [
        is_same or _share(words, seen_grams) >= SHARE for words, is_same in zip(questions, same, strict=True)
    ]
    places = [str(prompt.place) for prompt, overlaps in zip(prompts, overlapping, strict=True) if overlaps]
    # Without training data the shares are unknown, which n = 0 states; 0% would read as "no overlap".
    num_compared = len(prompts) if num_conversations else 0
    return Contamination(
        share_interval(sum(same), num_compared),
        share_interval(sum(overlapping), num_compared),
        num_conversations,
        tuple(places[:MAX_SHOWN]),
        too_short=sum(len(words) < GRAM for words in questions),
    )


def overlap_with_training(prompts: Sequence[Prompt], recipe: Recipe) -> Contamination:
    """Compare prompts with the training data of a recipe; the result names the sources that cannot be read."""
    missing: list[str] = []
    overlap = contamination(prompts, trained_conversations(recipe, on_missing=missing.append))
    return replace(overlap, not_compared=tuple(missing))


def trained_conversations(
    recipe: Recipe, *, on_missing: Callable[[str], object] = lambda _: None
) -> Iterator[Conversation]:
    """Yield the conversations that a recipe trains on: the rows that it draws, without its held-out rows.

    Args:
        recipe: The recipe of a run. Its sources are read from where they are now.
        on_missing: Called with the reason for each source that cannot be read.
    """
    data = recipe.data
    reading = reading_of(recipe.training.objective)
    options = ReadOptions({}, data.prompt_completion, reading, data.rejected)
    inputs: list[Input] = []
    hashes: list[int] = []
    for number, source in enumerate(data.sources):
        try:
            drawn = draw_rows(_input(source, spool=cache_folder(recipe)), seed=recipe.training.seed + number)
            hashes += [content_hash(row) for row in _rows(drawn, options)]
        except DataError as error:
            on_missing(str(error))
            continue
        inputs.append(drawn)
    # The same rule as preparation's: which rows are held out depends on the hashes of all rows together.
    values = np.array(hashes, dtype=np.uint64)
    share = 0.0 if data.heldout else float(data.heldout_share)
    heldout_hashes = set(
        values[held_out(values, np.ones(len(values), bool), share=share, maximum=data.heldout_max)].tolist()
    )
    for drawn in inputs:
        for row in _rows(drawn, options):
            if content_hash(row) not in heldout_hashes:
                yield from row


def _input(source: Source, *, spool: Path) -> Input:
    if source.path == "-":
        raise DataError(
            "-: the run read this source from standard input. Expected a file that can be read again. "
            "Save the rows and train from the file."
        )
    try:
        return input_of(source, spool=spool)
    except DataError as error:
        raise DataError(
            f"{str(error).removesuffix('.')}, or run the command in the folder where the run was started."
        ) from None


def _rows(drawn: Input, options: ReadOptions) -> Iterator[Sequence[Conversation]]:
    """Yield the conversations of every row that can be read."""
    options = replace(options, columns=drawn.settings.columns)
    for place, raw in drawn.taken():
        try:
            yield read_row(parse_row(raw, place), place, format_name=drawn.settings.format, options=options)[1]
        except DataError:
            continue


def _grams(words: Sequence[str]) -> set[int]:
    return {hash(tuple(words[at : at + GRAM])) for at in range(len(words) - GRAM + 1)}


def _share(words: Sequence[str], seen: set[int]) -> float:
    grams = _grams(words)
    return sum(gram in seen for gram in grams) / len(grams) if grams else 0.0


def _question(conversation: Conversation) -> str:
    questions = [message for message in conversation.messages if message.role == "user"]
    return text_of(questions[-1]) if questions else ""
