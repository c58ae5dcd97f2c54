"""Pieces of renderings: cut out, joined, and compared without white space.

Why: agreement between serving's prompt and a rendering is decided on text, exactly first and without white space
second. It is never decided on ids, which depend on the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from instil.conversation import Message
from instil.errors import EncodingError
from instil.template.tracing import Rendering, Run, cut, shifted


def piece(rendering: Rendering, start: int, end: int | None = None) -> Rendering:
    """Return ``rendering[start:end]`` with its origins.

    Example:
        >>> piece(Rendering("<user>hi", ((6, 8, (0, "content"), 0),)), 7)
        Rendering('i', ((0, 1, (0, 'content'), 1),))
    """
    end = len(rendering.text) if end is None else end
    return Rendering(rendering.text[start:end], cut(rendering.runs, start, end))


def joined(*renderings: Rendering) -> Rendering:
    """Return renderings end to end."""
    runs: list[Run] = []
    position = 0
    for rendering in renderings:
        runs.extend(shifted(rendering.runs, position))
        position += len(rendering.text)
    return Rendering("".join(rendering.text for rendering in renderings), tuple(runs))


def plain_rendering(messages: Sequence[Message]) -> Rendering:
    """Return the rendering of a plain conversation: its contents end to end.

    Raises:
        EncodingError: If a content is not text.

    Example:
        >>> plain_rendering([Message("user", "1 + 1 ="), Message("assistant", " 2")]).text
        '1 + 1 = 2'
    """
    runs: list[Run] = []
    position, texts = 0, []
    for index, message in enumerate(messages):
        content = message.content or ""
        if not isinstance(content, str):
            raise EncodingError(
                f"message {index + 1}: content in parts in a plain conversation. Expected text. Join the parts."
            )
        if content:
            runs.append((position, position + len(content), (index, "content"), 0))
            texts.append(content)
            position += len(content)
    return Rendering("".join(texts), tuple(runs))


def agreement(prompt: str, text: str) -> tuple[list[tuple[int, int]], bool]:
    """Match two texts from their beginnings, ignoring white space.

    Returns:
        The positions (in the prompt, in the text) of the characters that agree, and whether all of the prompt's do.

    Example:
        >>> agreement("a b", "ab c")
        ([(0, 0), (2, 1)], True)
    """
    pairs: list[tuple[int, int]] = []
    at = 0
    for position, character in enumerate(prompt):
        if character.isspace():
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) or text[at] != character:
            return pairs, False
        pairs.append((position, at))
        at += 1
    return pairs, True


def after_prompt(prompt: str, text: str) -> int | None:
    r"""Return where `text` continues after `prompt`, if the two agree except for white space; else None.

    If the prompt ends with white space, white space that follows the agreement is skipped: the prompt has supplied it.

    Example:
        >>> after_prompt("Q: a\nA:\n", "Q: a A: yes")
        8
        >>> after_prompt("Q: b", "Q: a A: yes") is None
        True
    """
    pairs, complete = agreement(prompt, text)
    if not complete or not pairs:
        return None
    at = pairs[-1][1] + 1
    if prompt[-1:].isspace():
        while at < len(text) and text[at].isspace():
            at += 1
    return at


def common_length(one: str, other: str) -> int:
    """Return the length of the longest common beginning.

    Example:
        >>> common_length("<think>", "</think>")
        1
    """
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low = 0
    while low < length:  # bisection, because comparing slices is fast
        middle = (low + length + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            length = middle - 1
    return low
