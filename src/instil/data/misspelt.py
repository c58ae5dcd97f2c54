"""Keys that are read nowhere but are nearly the name of one that is: ``wieght``, ``tool``.

Such a key stays where it is, for it may be meant; the ledger notes it with the name that it resembles. Questionable on purpose: only
names whose absence changes what is trained without a word are held against; ``plan`` is a column of many data sets and not ``plain``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from instil.conversation import Conversation

_OF_MESSAGES = ("weight", "loss_weight", "loss", "tool_calls", "tool_call_id", "function_call", "reasoning_content",
                "reasoning", "thinking")  # fmt: skip
_OF_ROWS = ("tools", "template_variables", "chat_template_kwargs", "enable_thinking")


def misspelt_keys(conversations: Iterable[Conversation]) -> set[tuple[str, str]]:
    """Give the keys of conversations and their messages that are probably misspelt, each with the name that is meant.

    Example:
        >>> from instil.conversation import Message
        >>> misspelt_keys([Conversation((Message("assistant", "4", extra={"wieght": 0}),), extra={"id": 7})])
        {('wieght', 'weight')}
    """
    found: set[tuple[str, str]] = set()
    for conversation in conversations:
        found |= _near(conversation.extra, _OF_ROWS)
        for message in conversation.messages:
            if message.extra:
                found |= _near(message.extra, _OF_MESSAGES)
    return found


def _near(keys: Mapping[str, Any], known: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(key, meant) for key in keys if (meant := _meant(str(key), known))}


@lru_cache(maxsize=1000)
def _meant(key: str, known: tuple[str, ...]) -> str:
    if key in known:  # read under this name in other formats
        return ""
    close = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.8)
    return close[0] if close else ""
