"""Reasoning under the names that the newest transformers fills in."""

from __future__ import annotations

from typing import Any

from transformers.utils import chat_template_utils


def aliased(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with every name that transformers fills in; version 5.17 itself passes them on unchanged."""
    if hasattr(chat_template_utils, "_alias_reasoning_fields"):
        return messages
    names = ("reasoning_content", "reasoning", "thinking")
    thoughts = [next((message[name] for name in names if message.get(name)), None) for message in messages]
    return [
        message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}
        for message, thought in zip(messages, thoughts, strict=True)
    ]
