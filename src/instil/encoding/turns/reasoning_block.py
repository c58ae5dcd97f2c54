r"""Blocks that serving's prompt supplies and the rendering lacks: an open tag, or a complete and empty pair of tags.

If the template itself shows what a block with reasoning looks like, the encoder learns it from there. QwQ,
DeepSeek-R1 and others drop it from history. For them the opening tag (``<think>``, ``<|START_THINKING|>``,
``<|channel>``) must have exactly one closing tag of the same name among the tags that the template's source or the
tokenizer knows.

Why: the white space around the closing tag mirrors the opening one's, as these models themselves generate it: after
``<think>\n`` comes ``\n</think>\n\n``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from instil.encoding.turns.inline_reasoning import REASONING_TAGS
from instil.encoding.turns.rendering_pieces import agreement

TAG = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,30}\]|◁[^◁▷\s]{1,40}▷")
_WORDS = re.compile(r"[^\W\d_]+")
_BEGINS, _ENDS = frozenset({"start", "begin"}), frozenset({"end"})


def supplied_block(prompt: str, text: str) -> tuple[str, int] | None:
    r"""Return what the prompt has beyond its agreement with the rendering, if that begins with an opening tag.

    Args:
        prompt: Serving's prompt.
        text: The rendering that continues with the answer.

    Returns:
        The block, and where the rendering continues.

    Example:
        >>> supplied_block("A:<think>\n", "A: <b>yes")
        ('<think>\n', 2)
    """
    pairs, _ = agreement(prompt, text)
    agreed = pairs[-1][0] + 1 if pairs else 0
    for tag in TAG.finditer(prompt):
        if tag.start() < agreed < tag.end():
            agreed = tag.start()
    block = prompt[agreed:].lstrip()
    first = TAG.match(block)
    if first is None or not _opens(first.group()):
        return None
    return block, max((at + 1 for position, at in pairs if position < agreed), default=0)


def closing_text(block: str, *, known: Collection[str]) -> str | None:
    r"""Return what closes a block: an empty text if it is complete, None if that is not certain.

    Args:
        block: What the prompt supplies, from the opening tag on.
        known: Tags that the template's source or the tokenizer knows.

    Example:
        >>> closing_text("<think>\n", known=["</think>"])
        '\n</think>\n\n'
        >>> closing_text("<|channel>thought\n<channel|>", known=[])
        ''
        >>> closing_text("<judge>", known=["</think>"]) is None
        True
    """
    tags = TAG.findall(block)
    first, last = tags[0], tags[-1]
    if last != first:
        is_complete = block.rstrip().endswith(last) and is_closing(first, last) and len(tags) == 2
        return "" if is_complete else None
    inside = block[len(first) :]
    partner = dict(REASONING_TAGS).get(first)
    # A known pair decides; a tag of another style may have the same name, as </think> and [/THINK].
    closing = {partner} if partner in known else {tag for tag in known if is_closing(first, tag)}
    if inside.strip() or len(closing) != 1:
        return None
    (tag,) = closing
    return f"\n{tag}\n\n" if "\n" in inside else tag


def _opens(tag: str) -> bool:
    """Return whether nothing marks a tag as an end: slash, word, or a bar on its right side only (``<channel|>``)."""
    right_bar_only = tag.endswith("|>") and not tag.startswith("<|")
    return "/" not in tag and not right_bar_only and not _ENDS & set(_WORDS.findall(tag.lower()))


def is_closing(opening: str, tag: str) -> bool:
    """Return whether a tag closes an opening one: it has the same name and is marked as an end."""
    if tag == opening or _opens(tag):
        return False
    return _name(opening) == _name(tag) != ()


def _name(tag: str) -> tuple[str, ...]:
    return tuple(word for word in _WORDS.findall(tag.lower()) if word not in _BEGINS | _ENDS)
