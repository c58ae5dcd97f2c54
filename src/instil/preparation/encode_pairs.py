"""Encode preference data: pairs of a chosen and a rejected answer to one prompt, and single judged answers.

A pair is one prompt and two endings. The prompt is the longest common run of messages, and only the endings are
trained. Both sides go through the encoder of SFT, so prompt ids are serving's and the stop token is an answer's last
trained token. A pair is used whole or left out whole.

Why: the encoder never learns that a conversation is one side of a pair. What would make the two prompts differ is
found by comparing the ids that it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from instil.conversation import Conversation, Example, Message
from instil.data.formats.preferences.kto import answer_start
from instil.data.formats.preferences.pairs import num_common
from instil.encoding.settings import EncodingSettings
from instil.encoding.truncation import without_oldest
from instil.encoding.weights import has_trained_text, is_trained
from instil.errors import DataError, RecipeError
from instil.recipe import Reading, Recipe, reading_of

NOTHING_TRAINED = "no trained token"
TOO_LONG = "too long"
NO_PAIR = "no answer is better than another"
EQUAL = "both answers are equal"
PREFIX = "one answer is the beginning of the other"
PROMPTS_DIFFER = "prompts differ"
SEVERAL_EXAMPLES = "answer needs several examples"
NO_PAIRS = (EQUAL, PREFIX, PROMPTS_DIFFER, SEVERAL_EXAMPLES)
"""Reasons for which two answers that were read are not used as a pair."""
KEPT_LAST_TURNS = "kept_last_turns"
_SKIP = "Fix the row, or leave such rows out with data.on_bad_row: skip."


class PairEncoder(Protocol):
    """The part of `ChatTokenizer` that this module needs."""

    @property
    def settings(self) -> EncodingSettings:
        """How conversations become examples."""
        ...

    def with_settings(self, settings: EncodingSettings, /) -> PairEncoder:
        """Return the same encoder under other settings."""
        ...

    def encode_many(self, conversations: Iterable[Conversation], /) -> Iterator[list[Example] | Exception]:
        """Yield each conversation's examples, or the error that it raised."""
        ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a pair or a judged answer is not used.

    Attributes:
        reason: The reason in the ledger's words.
        message: What was found, with its place.
        stops: Whether it is an error with ``on_bad_row: stop``. What good data may hold is only counted.
    """

    reason: str
    message: str = ""
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations that differ in how they end.

    Attributes:
        chosen: Ends with the better answer.
        rejected: Ends with the worse answer.
        num_prompt: Number of messages at the start that both have. None of them is trained.
    """

    chosen: Conversation
    rejected: Conversation
    num_prompt: int


Unit: TypeAlias = tuple[Conversation, ...]
"""Conversations that are used together or not at all: both sides of a pair, or one conversation."""
Outcome: TypeAlias = "tuple[Conversation, list[Example] | Exception | LeftOut]"
"""What became of a unit, and the conversation that this is about."""


def check_preference_settings(recipe: Recipe) -> None:
    """Refuse settings that would cut an answer, or train the prompt, where answers are compared.

    Raises:
        RecipeError: With the first of these settings.

    Example:
        >>> check_preference_settings(Recipe.from_mapping({"training": {"objective": "dpo"}}))
    """
    objective, data = recipe.training.objective, recipe.data
    if reading_of(objective) == "sft":
        return
    if data.train_on != "assistant":
        raise RecipeError(
            f"data.train_on: found {data.train_on} with training.objective: {objective}, which trains the answers that "
            "are compared and nothing else. Expected assistant. Leave the setting out."
        )
    if data.too_long in ("truncate_answer", "split"):
        raise RecipeError(
            f"data.too_long: found {data.too_long} with training.objective: {objective}, which compares whole answers. "
            "Expected drop, keep_last_turns or refuse. Choose one."
        )


def no_example(conversation: Conversation) -> LeftOut:
    """Return why the encoder gave no example: the conversation is too long, or nothing in it is trained.

    Example:
        >>> question, answer = Message("user", "2+2?"), Message("assistant", "4")
        >>> no_example(Conversation((question, answer))).reason, no_example(Conversation((question,))).reason
        ('too long', 'no trained token')
    """
    first = 0 if conversation.plain else 1
    return LeftOut(TOO_LONG if any(map(has_trained_text, conversation.messages[first:])) else NOTHING_TRAINED)


def units_of(conversations: Sequence[Conversation], reading: Reading) -> list[Unit]:
    """Return the conversations of a row as units: with `pairs` two and two, the chosen one first.

    Raises:
        DataError: If a format returned other sides than the reading needs.

    Example:
        >>> sides = [Conversation((Message("assistant", "a"),), side=side) for side in ("chosen", "rejected")]
        >>> [len(unit) for unit in units_of(sides, "pairs")], [len(unit) for unit in units_of(sides, "judged")]
        ([2], [1, 1])
    """
    if reading == "sft":
        return [(conversation,) for conversation in conversations]
    size = 2 if reading == "pairs" else 1
    units: list[Unit] = [tuple(conversations[at : at + size]) for at in range(0, len(conversations), size)]
    for unit in units:
        sides = tuple(conversation.side for conversation in unit)
        if sides != ("chosen", "rejected") if reading == "pairs" else None in sides:
            raise DataError(
                f"{unit[0].place}: conversations of the sides {sides}. Expected chosen and rejected. "
                "A bug in instil: report it."
            )
    return units


def encode_units(units: Sequence[Unit], encoder: PairEncoder, reading: Reading) -> Iterator[Outcome]:
    """Encode units in order, in one batch.

    Yields:
        For each unit its examples, the encoder's error, or why it is left out. A pair gives exactly two examples, the
        chosen one first.
    """
    if reading == "pairs":
        yield from _encode_pairs(units, encoder)
        return
    conversations = [conversation for (conversation,) in units]
    for conversation, outcome in zip(conversations, encoder.encode_many(conversations), strict=True):
        yield conversation, outcome if reading == "sft" else _judged(conversation, outcome)


def read_pair(chosen: Conversation, rejected: Conversation) -> Pair | LeftOut:
    """Return a pair whose common messages are not trained, or why its texts are no pair.

    Example:
        >>> question = Message("user", "2+2?")
        >>> good, bad = (Conversation((question, Message("assistant", text))) for text in ("4", "5"))
        >>> read_pair(good, bad).num_prompt
        1
        >>> read_pair(good, good).reason
        'both answers are equal'
    """
    place = chosen.place or "conversation"
    num_prompt = num_common(chosen.messages, rejected.messages)
    endings = chosen.messages[num_prompt:], rejected.messages[num_prompt:]
    first, second = map(trimmed, endings)
    inputs = [(one.tools, one.variables, one.plain) for one in (chosen, rejected)]
    if inputs[0] != inputs[1]:
        found = "tools, template variables or the kind of text differ between both answers"
        return _prompts_differ(f"{place}: {found}. Expected the same for both. {_SKIP}")
    if first == second:
        return LeftOut(EQUAL, f"{place}: both answers are equal. Expected two that differ. Remove the row.")
    if _begins(first, second) or _begins(second, first):
        found = "one answer is the beginning of the other"
        return LeftOut(PREFIX, f"{place}: {found}. Expected two that differ. Remove the row.")
    if not num_prompt:
        return _prompts_differ(f"{place}: both answers have no message in common. Expected the same prompt. {_SKIP}")
    for side, ending in zip(("chosen", "rejected"), endings, strict=True):
        if ending[0].role != "assistant":
            return _prompts_differ(
                f"{place}: message {num_prompt + 1} of the {side} side is from {ending[0].role} and differs from the "
                f"other side's. Expected both to differ in the assistant's answer. {_SKIP}"
            )
    return Pair(_with_context(chosen, num_prompt), _with_context(rejected, num_prompt), num_prompt)


def _with_context(conversation: Conversation, num_prompt: int) -> Conversation:
    """Return a conversation whose first messages are not trained. Rows that were rendered text come without weights."""
    if not any(map(has_trained_text, conversation.messages[:num_prompt])):
        return conversation
    prompt = [replace(message, weight=0.0, part_weights=()) for message in conversation.messages[:num_prompt]]
    return replace(conversation, messages=(*prompt, *conversation.messages[num_prompt:]))


def only_answer(conversation: Conversation) -> Conversation:
    """Return a judged conversation that trains what follows the last question, for one read back from rendered text."""
    return _with_context(conversation, answer_start(conversation.messages))


def trimmed(ending: Sequence[Message]) -> list[Message]:
    """Return messages without weights and without white space at the ends of their texts."""
    trimmed = []
    for message in ending:
        content = message.content.strip() if isinstance(message.content, str) else message.content
        reasoning = (message.reasoning or "").strip() or None
        trimmed.append(replace(message, content=content, reasoning=reasoning, weight=None, part_weights=()))
    return trimmed


def _begins(ending: Sequence[Message], longer: Sequence[Message]) -> bool:
    """Return whether one trimmed ending is the beginning of another: fewer messages, or less of the last one's text."""
    before = len(ending) - 1
    if len(ending) > len(longer) or ending[:before] != longer[:before]:
        return False
    last, other = ending[before], longer[before]
    if last == other or len(ending) < len(longer):
        return last == other
    content, rest = last.content or "", other.content or ""
    if not (isinstance(content, str) and isinstance(rest, str) and rest.startswith(content)):
        return False
    return replace(last, content=rest) == replace(other, content=rest)


def _prompts_differ(message: str) -> LeftOut:
    return LeftOut(PROMPTS_DIFFER, message, stops=True)


def _encode_pairs(units: Sequence[Unit], encoder: PairEncoder) -> Iterator[Outcome]:
    pairs = [read_pair(*unit) for unit in units]
    sides = [side for pair in pairs if isinstance(pair, Pair) for side in (pair.chosen, pair.rejected)]
    encoded = encoder.encode_many(sides)
    for (chosen, _), pair in zip(units, pairs, strict=True):
        if isinstance(pair, LeftOut):
            yield chosen, pair
        else:
            yield _paired(pair, next(encoded), next(encoded), encoder)


def _paired(
    pair: Pair, chosen: list[Example] | Exception, rejected: list[Example] | Exception, encoder: PairEncoder
) -> Outcome:
    """Put the examples of both sides together."""
    sides: list[list[Example]] = []
    for conversation, outcome in ((pair.chosen, chosen), (pair.rejected, rejected)):
        if isinstance(outcome, Exception):
            return conversation, outcome
        sides.append(outcome)
    too_long = any(not examples or examples[0].shortened for examples in sides)
    if too_long and not pair.chosen.plain and encoder.settings.too_long == "keep_last_turns":
        sides = _keep_last_turns(pair, encoder)
    examples: list[Example] = []
    for conversation, of_side in zip((pair.chosen, pair.rejected), sides, strict=True):
        one = _one_example(conversation, of_side)
        if isinstance(one, LeftOut):
            return conversation, one
        examples.append(one)
    problem = _compare(pair, *examples)
    return pair.chosen, examples if problem is None else problem


def _one_example(conversation: Conversation, examples: Sequence[Example]) -> Example | LeftOut:
    """Return the only example of an answer, with its side."""
    place = conversation.place or "conversation"
    if not examples:
        return no_example(conversation)
    if len(examples) > 1:
        return LeftOut(
            SEVERAL_EXAMPLES,
            f"{place}: the {conversation.side} answer has several turns, and the template changes earlier ones, so it "
            f"needs {len(examples)} examples. Expected one. Make the last turn alone the answer, choose another "
            "model.template, or leave such rows out with data.on_bad_row: skip.",
            stops=True,
        )
    if not is_trained(examples[0]):
        return LeftOut(NOTHING_TRAINED)
    return replace(examples[0], side=conversation.side)


def _compare(pair: Pair, chosen: Example, rejected: Example) -> LeftOut | None:
    """Return why two examples are no pair: equal ids, or different ids before the first trained token."""
    place = pair.chosen.place or "conversation"
    ids = [list(chosen.token_ids), list(rejected.token_ids)]
    if ids[0] == ids[1]:
        return LeftOut(
            EQUAL,
            f"{place}: the template prints both answers alike. Expected two that differ. Remove the row, or choose a "
            "model.template that prints what they differ in.",
        )
    starts = [_first_trained(example) for example in (chosen, rejected)]
    prompts = [side_ids[:start] for side_ids, start in zip(ids, starts, strict=True)]
    if prompts[0] == prompts[1]:
        return None
    same = zip(*prompts, strict=False)
    at = next((at for at, (one, other) in enumerate(same) if one != other), min(starts))
    return _prompts_differ(
        f"{place}: the token ids before the answers differ from token {at} on ({starts[0]:,} tokens before the chosen "
        f"answer, {starts[1]:,} before the rejected one). Expected the same ids before both. {_SKIP}"
    )


def _first_trained(example: Example) -> int:
    return next(at for at, weight in enumerate(example.weights) if weight > 0)


def _keep_last_turns(pair: Pair, encoder: PairEncoder) -> list[list[Example]]:
    """Drop the oldest exchanges of the common prompt, the same for both sides, until both fit.

    Returns:
        One example for each side, or nothing for both.
    """
    alone = encoder.with_settings(replace(encoder.settings, too_long="drop"))
    prompt = pair.chosen.messages[: pair.num_prompt]
    for kept in without_oldest(prompt):
        sides = (
            replace(side, messages=(*(message for _, message in kept), *side.messages[pair.num_prompt :]))
            for side in (pair.chosen, pair.rejected)
        )
        outcomes = list(alone.encode_many(sides))
        fitting = [outcome for outcome in outcomes if isinstance(outcome, list) and len(outcome) == 1]
        if len(fitting) == len(outcomes):
            num_dropped = len(prompt) - len(kept)
            return [[_kept(example, num_dropped)] for (example,) in fitting]
    return [[], []]


def _kept(example: Example, num_dropped: int) -> Example:
    turns = tuple(turn + num_dropped for turn in example.turns)
    return replace(example, turns=turns, shortened=KEPT_LAST_TURNS)


def _judged(conversation: Conversation, outcome: list[Example] | Exception) -> list[Example] | Exception | LeftOut:
    if isinstance(outcome, Exception):
        return outcome
    one = _one_example(conversation, outcome)
    return one if isinstance(one, LeftOut) else [one]
