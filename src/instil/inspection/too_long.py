"""How long a row is that is longer than the limit, and what became of it.

Why: the encoder leaves such a row out or shortens it without its length, because a run does not need it. Here the row is
encoded again without a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from instil.conversation import Conversation, Example
from instil.encoding.chat_tokenizer import ChatTokenizer

LEFT_OUT = "left_out"
SPLIT = "split"
_WORDS: Mapping[str, str] = {
    LEFT_OUT: "left out",
    "kept_last_turns": "trained without its oldest exchanges",
    "truncated_answer": "trained with its answer cut",
}


def without_limit(chat: ChatTokenizer) -> ChatTokenizer:
    """Return the same tokenizer and template without a limit on the length of examples."""
    return chat.with_settings(replace(chat.settings, max_tokens=None))


def longest_example(chat: ChatTokenizer, conversations: Sequence[Conversation]) -> int:
    """Return the tokens of the longest example of a row without a limit; 0 if it has none."""
    encoded = list(without_limit(chat).encode_many(conversations))
    examples: list[Example] = [example for outcome in encoded if isinstance(outcome, list) for example in outcome]
    return max((len(example.token_ids) for example in examples), default=0)


def too_long_words(longest: int, *, limit: int, how: str) -> str:
    """Return how long a row is, the limit, and what became of it.

    Args:
        longest: Tokens of its longest example without a limit.
        limit: The limit.
        how: `LEFT_OUT`, or how the encoder shortened it.

    Example:
        >>> too_long_words(1302, limit=1024, how=LEFT_OUT)
        '1,302 of 1,024 tokens: left out'
    """
    if how == SPLIT:
        return f"{longest:,} tokens, cut into {-(-longest // limit):,} examples of at most {limit:,}"
    return f"{longest:,} of {limit:,} tokens: {_WORDS[how]}"
