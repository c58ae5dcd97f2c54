"""Examples that are too long.

Never cut between a header and its answer, never train a cut answer as if it were finished, never silently. `drop` and `refuse` leave ids alone;
`keep_last_turns` encodes the conversation again without its oldest exchanges; `truncate_answer` cuts only what the model must write, and never down to
nothing; `split` cuts plain text into consecutive examples (a plain prompt and its completion are never parted). Questionable on purpose: an example is dropped, not shortened, where no policy can keep it honest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from instil.conversation import Conversation, Example, Message
from instil.encoding.settings import EncodingReport, TrainOn
from instil.errors import EncodingError

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


def fit(
    chat: ChatTokenizer,
    conversation: Conversation,
    examples: list[Example],
    *,
    train_on: TrainOn,
    report: EncodingReport,
) -> list[Example]:
    """Hold a conversation's examples against the length limit.

    Raises:
        EncodingError: If one is too long and the policy is to refuse, or to split what is not plain text.
    """
    limit = chat.settings.max_tokens
    if limit is None or all(len(example.token_ids) <= limit for example in examples):
        return examples
    text = conversation.plain and all(message.role == "assistant" for message in conversation.messages)
    policy = chat.settings.too_long or ("split" if text else "drop")
    fitted: list[Example] = []
    for example in examples:
        if len(example.token_ids) <= limit:
            fitted.append(example)
            continue
        if policy == "refuse":
            raise EncodingError(
                f"{conversation.place or 'conversation'}: an example has {len(example.token_ids)} tokens; at most {limit} are "
                "allowed; raise data.max_tokens, or set data.too_long: drop, keep_last_turns or truncate_answer"
            )
        if policy == "split" and text:
            shortened = split_text(example, limit)
        elif policy == "truncate_answer":
            shortened = truncate_answer(example, limit)
        elif policy == "keep_last_turns" and not conversation.plain:
            shortened = keep_last_turns(chat, conversation, example, train_on=train_on, limit=limit)
        else:
            shortened = []
        report.dropped += not shortened
        report.shortened += len(shortened)
        fitted += shortened
    return fitted


def truncate_answer(example: Example, limit: int) -> list[Example]:
    """Cut an example at the limit if that falls into something trained; what is left of that is trained without its stop token.

    Returns:
        The cut example, or nothing where not one trained token of the cut answer fits.

    Example:
        >>> truncate_answer(Example([1, 2, 3, 4], [0, 0, 1, 1]), 3)[0].weights
        [0, 0, 1]
        >>> truncate_answer(Example([1, 2, 3, 4], [0, 0, 0, 1]), 3)
        []
    """
    if not example.weights[limit - 1] > 0:
        return []
    weights = example.weights[:limit]
    whole, left = _num_spans(example.weights), _num_spans(weights)
    return [
        replace(
            example,
            token_ids=example.token_ids[:limit],
            weights=weights,
            turns=example.turns[:left] if whole == len(example.turns) else example.turns,
            shortened="truncated_answer",
        )
    ]


def _num_spans(weights: Sequence[float]) -> int:
    """Count the trained spans: one a turn, but where every token is trained."""
    return sum(weight > 0 and (at == 0 or not weights[at - 1] > 0) for at, weight in enumerate(weights))


def split_text(example: Example, limit: int) -> list[Example]:
    """Cut plain text into consecutive examples; only the last ends with the end-of-text token.

    The first token of a later piece is context: nothing precedes it there.

    Example:
        >>> [piece.token_ids for piece in split_text(Example([1, 2, 3, 4, 5], [0, 1, 1, 1, 1]), 2)]
        [[1, 2], [3, 4]]
    """
    pieces: list[Example] = []
    for start in range(0, len(example.token_ids), limit):
        ids, weights = example.token_ids[start : start + limit], list(example.weights[start : start + limit])
        weights[0] = 0.0
        if any(weights):
            pieces.append(replace(example, token_ids=ids, weights=weights, shortened="split"))
    return pieces


def keep_last_turns(
    chat: ChatTokenizer, conversation: Conversation, example: Example, *, train_on: TrainOn, limit: int
) -> list[Example]:
    """Encode again without the oldest exchanges, system messages kept, until it fits; nothing where the last one alone is too long."""
    from instil.encoding.encoder import encode_without_limit

    for kept in _without_oldest(conversation.messages[: example.turns[-1] + 1]):
        trained = set(example.turns)
        messages = tuple(
            message if number in trained or message.role != "assistant" else replace(message, weight=0.0)
            for number, message in kept
        )
        shorter = replace(conversation, messages=messages)
        made = encode_without_limit(chat, shorter, train_on=train_on)
        if len(made) == 1 and len(made[0].token_ids) <= limit:
            numbers = [number for number, _ in kept]
            return [replace(made[0], turns=tuple(numbers[turn] for turn in made[0].turns), shortened="kept_last_turns")]
    return []


def _without_oldest(messages: Sequence[Message]) -> Iterator[list[tuple[int, Message]]]:
    """Give the messages with their indices, less the first exchange, less the first two, and so on."""
    numbered = list(enumerate(messages))
    head = [each for each in numbered if each[1].role in ("system", "developer")]
    rest = [each for each in numbered if each[1].role not in ("system", "developer")]
    starts = [
        at
        for at, (_, message) in enumerate(rest)
        if message.role == "user" and (at == 0 or rest[at - 1][1].role != "user")
    ]
    for start in starts[1:]:
        yield sorted([*head, *rest[start:]], key=lambda each: each[0])
