"""The keys and role names that the formats know, and the known one that a misspelt one probably stands for.

A key counts as misspelt only if it is not known, is close to a known key, and that key is missing beside it. A format
then either refuses the row or reads it without that key. The ledger lists the second case. A user's own columns stay as
they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from instil.conversation import Conversation, Role
from instil.conversation.message_reading import ROLE_NAMES
from instil.conversation.message_weights import DETAIL_KEYS, WEIGHT_KEYS
from instil.data.column_names import standard_name
from instil.data.formats.sharegpt import ROLES as SHAREGPT_ROLES

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
"""Keys without which a row can still be read."""
_CORRECT = frozenset(
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
        *WEIGHT_KEYS,
        *DETAIL_KEYS,
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
"""Valid words, which count as misspelt only if the key that they stand for is needed and missing."""
_LISTS = frozenset({"messages", "conversations", "tools", "history", "tool_calls"})
"""Keys that hold a list."""
_TURNS = frozenset({"messages", "conversations", "conversation"})
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
"""Key to the keys that are useless without it."""
_ROLE_WORDS: Mapping[str, Role] = {
    **SHAREGPT_ROLES,
    **ROLE_NAMES,
    "ai": "assistant",
    "customer": "user",
    "agent": "assistant",
}


def misspelt_keys(mapping: Mapping[str, Any], known: Iterable[str]) -> dict[str, str]:
    """Return the keys of a mapping that are probably misspellings of a known key.

    Args:
        mapping: A row, or one of its messages.
        known: The keys that are correct there.

    Returns:
        Misspelt key to correct key. No two keys map to the same one, and none to a key that the mapping has.

    Example:
        >>> misspelt_keys({"role": "user", "contnet": "Hi", "topic": "x"}, MESSAGE_KEYS)
        {'contnet': 'content'}
    """
    missing = [key for key in known if key not in mapping]
    corrections: dict[str, str] = {}
    for key in mapping:
        correct = _correction(key, missing, mapping)
        if correct is not None and correct not in corrections.values():
            corrections[key] = correct
    return corrections


def misspelt_in(conversations: Iterable[Conversation]) -> set[tuple[str, str]]:
    """Return the pairs (misspelt, correct) of optional keys in conversations that could be read without them.

    Example:
        >>> from instil.conversation import Message
        >>> misspelt_in([Conversation((Message("assistant", "4", extra={"wieght": 0}),), extra={"id": 7})])
        {('wieght', 'weight')}
    """
    misspelt: set[tuple[str, str]] = set()
    for conversation in conversations:
        if conversation.extra:
            misspelt |= _misspelt_optional(conversation.extra, ROW_KEYS)
        for message in conversation.messages:
            if message.extra:
                misspelt |= _misspelt_optional(message.extra, MESSAGE_KEYS)
    return misspelt


def _misspelt_optional(extra: Mapping[str, Any], known: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    return _misspelt_names(tuple((key, isinstance(value, list)) for key, value in extra.items()), known)


@lru_cache(maxsize=1000)
def _misspelt_names(keys: tuple[tuple[str, bool], ...], known: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Judge keys only by name and by whether they hold a list, so that rows with the same columns share one answer."""
    mapping: dict[str, Any] = {key: [] if is_list else "" for key, is_list in keys}
    return frozenset(misspelt_keys(mapping, [key for key in known if key in _NOT_NEEDED]).items())


def _correction(key: Any, missing: list[str], mapping: Mapping[str, Any]) -> str | None:
    """Return the missing key that `key` probably stands for, or None."""
    if not isinstance(key, str) or not missing:
        return None
    word = key.strip().lower()
    # 1. A valid word that often stands for another key, here where that one is needed.
    often = _OFTEN_MEANT.get(word)
    if often in missing and (often not in _NEEDED_WITH or any(other in mapping for other in _NEEDED_WITH[often])):
        return often if _fits(mapping[key], often) else None
    # 2. A valid word that stands for itself.
    if key in _CORRECT:
        return None
    # 3. Another name of a plain column, which is read. Rows of turns read only their own names.
    if standard_name(key) in missing and _TURNS.isdisjoint(mapping):
        return None
    # 4. A missing key in other letters of upper or lower case.
    if word in missing:
        return word if _fits(mapping[key], word) else None
    # 5. A typing error: similar, of about the same length and with the same first letter.
    for close in difflib.get_close_matches(word, missing, n=2, cutoff=0.75):
        is_alike = abs(len(close) - len(word)) <= 2 and word[:1] == close[:1] and ("_" in word) == ("_" in close)
        if is_alike and _fits(mapping[key], close):
            return close
    return None


def _fits(value: Any, key: str) -> bool:
    """Return whether a value is of the kind that a key holds: a list for keys of lists, no list for the others."""
    return isinstance(value, list) == (key in _LISTS) or (
        key in ("prompt", "completion", "chosen", "content") and bool(value)
    )


def meant_role(name: Any) -> Role | None:
    """Return the role that an unknown role name stands for, or None if that is not certain.

    Example:
        >>> meant_role("Human "), meant_role("asistant"), meant_role("narrator")
        ('user', 'assistant', None)
    """
    if not isinstance(name, str):
        return None
    word = name.strip().lower()
    if word in _ROLE_WORDS:
        return _ROLE_WORDS[word]
    close = difflib.get_close_matches(word, _ROLE_WORDS, n=1, cutoff=0.8)
    return _ROLE_WORDS[close[0]] if close else None
