"""Reasoning that stands in an answer's text as ``<think>…</think>``.

Data made by reasoning models often carries it so. Where the template has a place for reasoning, it belongs there; where it has none, the text is left
alone, for moving it would lose it. Questionable on purpose: only a block that the answer begins with counts.
"""

from __future__ import annotations

import re
from dataclasses import replace

from instil.conversation import Message

_BLOCK = re.compile(r"\s*<(think|thinking|reasoning)>(?P<inside>.*?)</\1>\s*", re.DOTALL)


def split_reasoning(message: Message) -> Message:
    r"""Move a ``<think>…</think>`` that an answer begins with into `reasoning`; other messages are given back as they are.

    Example:
        >>> message = split_reasoning(Message("assistant", "<think>\n2+2\n</think>\n\n4"))
        >>> message.content, message.reasoning
        ('4', '2+2')
    """
    if message.role != "assistant" or message.reasoning is not None or not isinstance(message.content, str):
        return message
    if "</" not in message.content:
        return message
    match = _BLOCK.match(message.content)
    if match is None:
        return message
    return replace(message, content=message.content[match.end() :], reasoning=match["inside"].strip() or None)
