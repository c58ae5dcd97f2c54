"""Examples that are too long.

A header is never cut from its answer, a cut answer is never trained as if it were finished, and nothing happens
silently. `drop` and `refuse` leave ids alone. `keep_last_turns` encodes the conversation again without its oldest
exchanges. `truncate_answer` cuts only what the model must generate, and never down to nothing. `split` cuts plain
text into consecutive examples; a plain prompt is never separated from its completion.

Why: where no policy can keep an example honest, it is dropped rather than shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from instil.conversation import Conversation, Example, Message
from instil.encoding.settings import EncodingReport, EncodingSettings
from instil.encoding.weights import weights_of_part
from instil.errors import EncodingError


def fit(
    conversation: Conversation,
    examples: list[Example],
    *,
    settings: EncodingSettings,
    report: EncodingReport,
    encode_again: Callable[[Conversation], list[Example]],
) -> list[Example]:
    """Apply the length limit to a conversation's examples.

    Args:
        conversation: The conversation.
        examples: Its examples.
        settings: The limit (`max_tokens`) and the policy (`too_long`).
        report: Counts, which are added to.
        encode_again: Encodes a shorter conversation without a limit.

    Raises:
        EncodingError: If one is too long and the policy is to refuse.
    """
    limit = settings.max_tokens
    if limit is None or all(len(example.token_ids) <= limit for example in examples):
        return examples
    is_text = conversation.plain and all(message.role == "assistant" for message in conversation.messages)
    policy = settings.too_long or ("split" if is_text else "drop")
    fitted: list[Example] = []
    for example in examples:
        if len(example.token_ids) <= limit:
            fitted.append(example)
            continue
        if policy == "refuse":
            raise EncodingError(
                f"{conversation.place or 'conversation'}: an example has {len(example.token_ids):,} tokens. "
                f"At most {limit:,} are allowed. Raise data.max_tokens, or set data.too_long: "
                "drop, keep_last_turns or truncate_answer."
            )
        # A policy that does not apply to this kind of conversation drops the example.
        if policy == "split" and is_text:
            shortened = split_text(example, limit)
        elif policy == "truncate_answer":
            shortened = truncate_answer(example, limit)
        elif policy == "keep_last_turns" and not conversation.plain:
            shortened = keep_last_turns(conversation, example, limit=limit, encode_again=encode_again)
        else:
            shortened = []
        report.dropped += not shortened
        report.shortened += len(shortened)
        fitted += shortened
    return fitted


def truncate_answer(example: Example, limit: int) -> list[Example]:
    """Cut an example at the limit if that lies in a trained span, which is then trained without a stop token.

    Returns:
        The cut example, or nothing if not one trained token of the cut answer fits.

    Example:
        >>> truncate_answer(Example([1, 2, 3, 4], [0.0, 0.0, 1.0, 1.0]), 3)[0].weights
        [0.0, 0.0, 1.0]
        >>> truncate_answer(Example([1, 2, 3, 4], [0.0, 0.0, 0.0, 1.0]), 3)
        []
    """
    if not example.weights[limit - 1] > 0:
        return []
    weights = weights_of_part(example.weights, 0, limit)
    spans_before, spans_left = _num_spans(example.weights), _num_spans(weights)
    # With `train_on: all` one span covers several turns, and all of them stay.
    one_span_per_turn = spans_before == len(example.turns)
    return [
        replace(
            example,
            token_ids=example.token_ids[:limit],
            weights=weights,
            turns=example.turns[:spans_left] if one_span_per_turn else example.turns,
            shortened="truncated_answer",
        )
    ]


def _num_spans(weights: Sequence[float]) -> int:
    """Return the number of trained spans."""
    return sum(weight > 0 and (at == 0 or not weights[at - 1] > 0) for at, weight in enumerate(weights))


def split_text(example: Example, limit: int) -> list[Example]:
    """Cut plain text into consecutive examples; only the last one ends with the end-of-text token.

    Example:
        >>> [part.token_ids for part in split_text(Example([1, 2, 3, 4, 5], [0.0, 1.0, 1.0, 1.0, 1.0]), 2)]
        [[1, 2], [3, 4]]
    """
    parts: list[Example] = []
    for start in range(0, len(example.token_ids), limit):
        weights = weights_of_part(example.weights, start, start + limit)
        if any(weights):
            token_ids = example.token_ids[start : start + limit]
            parts.append(replace(example, token_ids=token_ids, weights=weights, shortened="split"))
    return parts


def keep_last_turns(
    conversation: Conversation,
    example: Example,
    *,
    limit: int,
    encode_again: Callable[[Conversation], list[Example]],
) -> list[Example]:
    """Encode again without the oldest exchanges until the example fits; system messages stay.

    Returns:
        One example, or nothing if even the last exchange alone is too long.
    """
    trained = set(example.turns)
    for kept in without_oldest(conversation.messages[: example.turns[-1] + 1]):
        # Turns that this example does not train (another example does) stay as context.
        messages = tuple(
            message if index in trained or message.role != "assistant" else replace(message, weight=0.0)
            for index, message in kept
        )
        shorter = encode_again(replace(conversation, messages=messages))
        if len(shorter) == 1 and len(shorter[0].token_ids) <= limit:
            original = [index for index, _ in kept]
            turns = tuple(original[turn] for turn in shorter[0].turns)
            return [replace(shorter[0], turns=turns, shortened="kept_last_turns")]
    return []


def without_oldest(messages: Sequence[Message]) -> Iterator[list[tuple[int, Message]]]:
    """Yield the messages with their indices: without the first exchange, without the first two, and so on."""
    numbered = list(enumerate(messages))
    head = [(index, message) for index, message in numbered if message.role in ("system", "developer")]
    rest = [(index, message) for index, message in numbered if message.role not in ("system", "developer")]
    starts = [
        at
        for at, (_, message) in enumerate(rest)
        if message.role == "user" and (at == 0 or rest[at - 1][1].role != "user")
    ]
    for start in starts[1:]:
        yield sorted([*head, *rest[start:]], key=lambda numbered: numbered[0])
