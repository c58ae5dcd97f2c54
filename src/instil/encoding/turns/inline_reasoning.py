"""Reasoning inside an answer's text, such as ``<think>…</think>``: the one list of tags, and the split of an answer.

Data that reasoning models wrote often carries its reasoning in the text. Where the template has a place for
reasoning, it is moved there. Where it has none, the text stays as it is, because moving the reasoning would lose it.
Answers that a model generates are parsed by the same list (`instil.generation.parsing`).

Why: only a block at the beginning of an answer is moved. A tag further on may be what the answer is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from instil.conversation import Message, PartWeight

REASONING_TAGS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek-R1, QwQ, Qwen3, GLM, SmolLM3 and most others
    ("<thinking>", "</thinking>"),  # datasets distilled from models that were told to think first
    ("<reasoning>", "</reasoning>"),  # datasets and recipes for rewards on the format
    ("[THINK]", "[/THINK]"),  # Mistral: Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere: Command A Reasoning
    ("<seed:think>", "</seed:think>"),  # ByteDance: Seed-OSS
    ("◁think▷", "◁/think▷"),  # Moonshot: Kimi-VL-Thinking
    ("<|channel>thought", "<channel|>"),  # Google: Gemma 4
)
"""Pairs of tags around reasoning: as the models' chat templates print them, or as datasets write them."""

OPENING_TAGS: tuple[str, ...] = tuple(opening for opening, _ in REASONING_TAGS)
CLOSING_TAGS: tuple[str, ...] = tuple(closing for _, closing in REASONING_TAGS)
_FIRST_CHARACTERS = frozenset(tag[0] for tag in CLOSING_TAGS)

_BLOCK = re.compile(
    r"\s*(?:"
    + "|".join(f"{re.escape(opening)}(.*?){re.escape(closing)}" for opening, closing in REASONING_TAGS)
    + r")\s*",
    re.DOTALL,
)


def split_reasoning(message: Message) -> Message:
    r"""Move the reasoning block that an answer begins with into `reasoning`; return any other message unchanged.

    Example:
        >>> message = split_reasoning(Message("assistant", "<think>\n2+2\n</think>\n\n4"))
        >>> message.content, message.reasoning
        ('4', '2+2')
    """
    if message.role != "assistant" or message.reasoning is not None or not isinstance(message.content, str):
        return message
    match = _block(message.content)
    if match is None:
        return message
    reasoning = match[match.lastindex or 0].strip() or None
    moved = replace(message, content=message.content[match.end() :], reasoning=reasoning)
    if not message.part_weights:
        return moved
    start = message.content.index(reasoning) if reasoning else 0
    spans = {"reasoning": (start, start + len(reasoning or "")), "content": (match.end(), len(message.content))}
    return replace(moved, part_weights=tuple(_moved_weights(message.part_weights, spans)))


def _moved_weights(weights: Sequence[PartWeight], spans: Mapping[str, tuple[int, int]]) -> Iterator[PartWeight]:
    """Yield the weights of parts of a text of which some spans are now texts of their own, by field."""
    for part in weights:
        for field, (start, end) in spans.items():
            first, last = max(part.start, start), min(part.end, end)
            if first < last:
                yield PartWeight(field, first - start, last - start, part.weight)


def reasoning_span(text: str) -> tuple[int, int] | None:
    """Return the span between the tags of the block that a text begins with; None if there is none, or it is empty.

    Example:
        >>> reasoning_span("<think>Hm</think>Four")
        (7, 9)
    """
    match = _block(text)
    if match is None or not match[match.lastindex or 0].strip():
        return None
    return match.span(match.lastindex or 0)


def begins_with_tag(text: str) -> bool:
    """Return True when a text begins with an opening tag; only then can `split_reasoning` move anything."""
    return text.lstrip().startswith(OPENING_TAGS)


def carries_reasoning(text: str) -> bool:
    """Return True when a text closes a reasoning block, wherever it stands and whether or not it was opened."""
    # Most answers have none of the characters that a tag begins with, which is quick to see.
    return any(first in text for first in _FIRST_CHARACTERS) and any(tag in text for tag in CLOSING_TAGS)


def _block(text: str) -> re.Match[str] | None:
    """Match the block that a text begins with; the one group that took part is what stands between the tags."""
    return _BLOCK.match(text) if begins_with_tag(text) else None
