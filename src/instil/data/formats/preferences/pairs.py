"""One prompt and its answers: where the common prompt ends, and the conversations that such a row gives.

The formats find the messages of the better answer and of the worse ones; here they become conversations with a side.

Why: the prompt is the longest common run of *messages*. Characters or tokens that two answers begin with in common
belong to the answers, so they are trained on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from instil.conversation import Conversation, Message
from instil.data.formats.row_format import ReadOptions
from instil.data.side_columns import is_empty


def num_common(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Return how many messages at the beginning of both sides are their common prompt.

    Weights are not compared. The last answer of a side is never a part of the prompt. So both sides end with an answer
    also where they are equal, or where one is the beginning of the other.

    If the message behind the prompt is not an assistant's on both sides, the prompts differ: the pair has no common
    question.

    Example:
        >>> question, again = Message("user", "2+2?"), Message("user", "Sure?")
        >>> num_common([question, Message("assistant", "4")], [question, Message("assistant", "44")])
        1
        >>> num_common([question, Message("assistant", "4")], [question, Message("assistant", "4")])
        1
        >>> num_common([question, Message("assistant", "4")], [again, Message("assistant", "4")])
        0
    """
    most = min(_last_answer(chosen), _last_answer(rejected))
    differing = (n for n in range(most) if not is_same(chosen[n], rejected[n]))
    return next(differing, most)


def _last_answer(messages: Sequence[Message]) -> int:
    answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
    return answers[-1] if answers else len(messages)


def is_same(message: Message, other: Message) -> bool:
    """Return whether two messages are equal in everything but their weights.

    Example:
        >>> is_same(Message("assistant", "4", weight=0.0), Message("assistant", "4"))
        True
    """
    return message == other or _unweighted(message) == _unweighted(other)


def _unweighted(message: Message) -> Message:
    return replace(message, weight=None, part_weights=())


def starts_with(messages: Sequence[Message], beginning: Sequence[Message]) -> bool:
    """Return whether the first messages are these, weights apart."""
    return len(messages) >= len(beginning) and all(map(is_same, messages, beginning))


def has_common_prompt(chosen: Conversation, rejected: Conversation) -> bool:
    """Return whether two sides share a prompt, and both go on with an answer of the assistant.

    Example:
        >>> question = Message("user", "2+2?")
        >>> side = Conversation((question, Message("assistant", "4")))
        >>> has_common_prompt(side, Conversation((question, Message("assistant", "5"))))
        True
        >>> has_common_prompt(side, Conversation((Message("user", "3+3?"), Message("assistant", "6"))))
        False
    """
    num_prompt = num_common(chosen.messages, rejected.messages)
    return num_prompt > 0 and all(side.messages[num_prompt].role == "assistant" for side in (chosen, rejected))


def with_side(
    conversation: Conversation,
    side: Literal["chosen", "rejected"],
    *,
    num_prompt: int,
    prompt: Sequence[Message] | None = None,
) -> Conversation:
    """Return a conversation as one side: its prompt has weight 0, the messages behind it keep their weights.

    Args:
        conversation: The complete conversation.
        side: Whether it ends with the better or the worse answer.
        num_prompt: How many messages are the prompt.
        prompt: Messages to take the prompt from, so that both sides of a pair have the very same one; default its own.
    """
    messages = conversation.messages
    silent = [replace(message, weight=0.0, part_weights=()) for message in (prompt or messages)[:num_prompt]]
    return replace(conversation, messages=(*silent, *messages[num_prompt:]), side=side)


def as_pair(chosen: Conversation, rejected: Conversation) -> tuple[Conversation, Conversation]:
    """Return two conversations as the two sides of a pair. Equal sides and differing prompts are not checked here."""
    num_prompt = num_common(chosen.messages, rejected.messages)
    return (
        with_side(chosen, "chosen", num_prompt=num_prompt),
        with_side(rejected, "rejected", num_prompt=num_prompt, prompt=chosen.messages),
    )


def as_judged(conversation: Conversation, side: Literal["chosen", "rejected"]) -> Conversation:
    """Return a conversation as one judged answer: all before its first trained answer is the prompt.

    Example:
        >>> good = as_judged(Conversation((Message("user", "2+2?"), Message("assistant", "4"))), "chosen")
        >>> [message.weight for message in good.messages], good.side
        ([0.0, None], 'chosen')
    """
    return with_side(conversation, side, num_prompt=first_trained(conversation.messages))


def first_trained(messages: Sequence[Message]) -> int:
    """Return the index of the first answer whose weight is not 0; the number of messages if there is none."""
    trained = (n for n, message in enumerate(messages) if message.role == "assistant" and message.weight != 0)
    return next(trained, len(messages))


def compared(
    chosen: Conversation, rejected: Sequence[Conversation], options: ReadOptions, *, scores: Sequence[float] = ()
) -> tuple[Conversation, ...]:
    """Return the conversations of a row that has one better answer and at least one worse.

    Args:
        chosen: The complete conversation that ends with the better answer.
        rejected: Those that end with a worse answer, the worst last.
        options: Pairs or single judged answers; every worse answer, or only the worst.
        scores: Scores of all of them, the better one's first. They become columns, as UltraFeedback has them:
            ``score_chosen`` and ``score_rejected`` of a pair, ``score`` of a judged answer.

    Returns:
        ``pairs``: chosen and rejected in turns; the better answer stands before each worse one.
        ``judged``: the better answer once, then the worse ones. Their prompt is what all of them share.
    """
    lower: Sequence[float | None] = scores[1:] or [None] * len(rejected)
    others = list(zip(rejected, lower, strict=True))
    if options.rejected == "worst":
        others = others[-1:]
    best = scores[0] if scores else None
    if options.reading == "judged":
        num_prompt = min(num_common(chosen.messages, other.messages) for other, _ in others)
        judged = [with_side(_scored(chosen, score=best), "chosen", num_prompt=num_prompt)]
        for other, score in others:
            bad = with_side(_scored(other, score=score), "rejected", num_prompt=num_prompt, prompt=chosen.messages)
            judged.append(bad)
        return tuple(_part(conversation, number) for number, conversation in enumerate(judged))
    sides: list[Conversation] = []
    for number, (other, score) in enumerate(others):
        columns = {"score_chosen": best, "score_rejected": score}
        pair = as_pair(_scored(chosen, **columns), _scored(other, **columns))
        sides += [_part(side, number) for side in pair] if len(others) > 1 else pair
    return tuple(sides)


def _scored(conversation: Conversation, **columns: float | None) -> Conversation:
    """Return the conversation with scores as columns, where it has some and no column of that name."""
    extra = conversation.extra
    new = {key: value for key, value in columns.items() if value is not None and is_empty(extra.get(key))}
    return replace(conversation, extra={**extra, **new}) if new else conversation


def _part(conversation: Conversation, number: int) -> Conversation:
    place = conversation.place
    return conversation if place is None else replace(conversation, place=replace(place, part=number))
