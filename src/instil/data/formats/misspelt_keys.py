"""The keys and role names that the formats know, and which unknown one was probably meant for which.

A key is called misspelt only if it is no known key, is close to one, and that one is absent beside it: then a reader either
refuses the row or, worse, reads it without: that is noted in the ledger. Columns of a person's own stay columns of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from instil.conversation import Conversation, Role
from instil.data.formats.sharegpt import ROLES as SHAREGPT_ROLES
from instil.data.messages import ROLE_NAMES

ROW_KEYS = (
    "messages",
    "conversations",
    "tools",
    "instruction",
    "input",
    "output",
    "history",
    "prompt",
    "completion",
    "question",
    "answer",
    "chosen",
    "rejected",
    "system",
    "text",
    "template_variables",
)
MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "reasoning_content", "weight")
TURN_KEYS = ("from", "value")
_NOT_NEEDED = frozenset({"tools", "template_variables", "tool_calls", "tool_call_id", "reasoning_content", "weight"})
"""Keys without which a row is read all the same."""
_RIGHT_AS_THEY_ARE = frozenset(
    {
        *ROW_KEYS,
        *MESSAGE_KEYS,
        *TURN_KEYS,
        *("conversation", "functions", "function_call", "response", "responses", "instructions", "prompts", "outputs"),
        *(
            "content_type",
            "contents",
            "context",
            "texts",
            "inputs",
            "values",
            "form",
            "weights",
            "reasoning",
            "thinking",
        ),
        *("name", "loss", "loss_weight", "chat_template_kwargs", "enable_thinking", "documents", "plain", "dialog"),
        *("question_id", "answer_id", "answers", "questions", "prompt_id", "system_prompt", "tool", "test", "dialogue"),
    }
)
_OFTEN_MEANT = {
    "outputs": "output",
    "inputs": "input",
    "instructions": "instruction",
    "prompts": "prompt",
    "contents": "content",
    "values": "value",
    "form": "from",
    "message": "messages",
    "tool_call": "tool_calls",
}
"""Words of their own, which are misspelt only where the key that they stand for is needed and missing."""
_LISTS = frozenset({"messages", "conversations", "tools", "history", "tool_calls"})
_NEEDED_WITH = {
    "output": ("instruction",),
    "instruction": ("output",),
    "completion": ("prompt",),
    "prompt": ("completion",),
    "content": ("role",),
    "role": ("content",),
    "value": ("from",),
    "from": ("value",),
    "answer": ("question",),
    "question": ("answer",),
}
_ROLE_WORDS: Mapping[str, Role] = {
    **SHAREGPT_ROLES,
    **ROLE_NAMES,
    "ai": "assistant",
    "customer": "user",
    "agent": "assistant",
}


def misspelt_keys(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, str]:
    """Find the keys of a mapping that were probably meant for a known one.

    Args:
        given: A row, or one of its messages.
        known: The keys that may be meant there.

    Returns:
        Misspelt key to the right one; never two keys to the same one, and never one that is there already.

    Example:
        >>> misspelt_keys({"role": "user", "contnet": "Hi", "topic": "x"}, MESSAGE_KEYS)
        {'contnet': 'content'}
    """
    missing = [key for key in known if key not in given]
    found: dict[str, str] = {}
    for key in given:
        meant = _meant(key, missing, given)
        if meant is not None and meant not in found.values():
            found[key] = meant
    return found


def misspelt_in(conversations: Iterable[Conversation]) -> set[tuple[str, str]]:
    """Give the keys that were read as keys of a person's own and were probably meant for one that nothing needs.

    Example:
        >>> from instil.conversation import Message
        >>> misspelt_in([Conversation((Message("assistant", "4", extra={"wieght": 0}),), extra={"id": 7})])
        {('wieght', 'weight')}
    """
    found: set[tuple[str, str]] = set()
    for conversation in conversations:
        if conversation.extra:
            found |= _misspelt_beside(conversation.extra, ROW_KEYS)
        for message in conversation.messages:
            if message.extra:
                found |= _misspelt_beside(message.extra, MESSAGE_KEYS)
    return found


def _misspelt_beside(extra: Mapping[str, Any], known: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    return _misspelt_names(tuple((key, isinstance(value, list)) for key, value in extra.items()), known)


@lru_cache(maxsize=1000)
def _misspelt_names(keys: tuple[tuple[str, bool], ...], known: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Judge keys by their names and whether they hold a list: the same ones stand in row after row."""
    given: dict[str, Any] = {key: [] if is_list else "" for key, is_list in keys}
    return frozenset(misspelt_keys(given, [key for key in known if key in _NOT_NEEDED]).items())


def _meant(key: Any, missing: list[str], given: Mapping[str, Any]) -> str | None:
    if not isinstance(key, str) or not missing:
        return None
    word = key.strip().lower()
    often = _OFTEN_MEANT.get(word)
    if often in missing and (often not in _NEEDED_WITH or any(other in given for other in _NEEDED_WITH[often])):
        return often if _fits(given[key], often) else None
    if key in _RIGHT_AS_THEY_ARE:
        return None
    if word in missing:
        return word if _fits(given[key], word) else None
    for close in difflib.get_close_matches(word, missing, n=2, cutoff=0.75):
        alike = abs(len(close) - len(word)) <= 2 and word[:1] == close[:1] and ("_" in word) == ("_" in close)
        if alike and _fits(given[key], close):
            return close
    return None


def _fits(value: Any, key: str) -> bool:
    """Tell whether a value is of the kind that a key holds: a list of turns, or anything but that."""
    return isinstance(value, list) == (key in _LISTS) or (
        key in ("prompt", "completion", "chosen", "content") and bool(value)
    )


def meant_role(given: Any) -> Role | None:
    """Give the role that an unknown role name was meant for, or None where that is not certain.

    Example:
        >>> meant_role("Human "), meant_role("asistant"), meant_role("narrator")
        ('user', 'assistant', None)
    """
    if not isinstance(given, str):
        return None
    word = given.strip().lower()
    if word in _ROLE_WORDS:
        return _ROLE_WORDS[word]
    close = difflib.get_close_matches(word, _ROLE_WORDS, n=1, cutoff=0.8)
    return _ROLE_WORDS[close[0]] if close else None
