"""Pieces of renderings: cut out, laid end to end, and compared without white space.

Questionable on purpose: agreement between serving's prompt and a rendering is decided on text, exact first and without white space second; it
is never decided on ids, which depend on the tokenizer.
"""

from __future__ import annotations

from instil.template.tracing import Rendering, Run, cut, shifted


def piece(rendering: Rendering, start: int, end: int | None = None) -> Rendering:
    """Give ``rendering[start:end]`` with its origins.

    Example:
        >>> piece(Rendering("<user>hi", ((6, 8, (0, "content"), 0),)), 7)
        Rendering('i', ((0, 1, (0, 'content'), 1),))
    """
    end = len(rendering.text) if end is None else end
    return Rendering(rendering.text[start:end], cut(rendering.runs, start, end))


def laid(*renderings: Rendering) -> Rendering:
    """Lay renderings end to end."""
    runs: list[Run] = []
    position = 0
    for each in renderings:
        runs.extend(shifted(each.runs, position))
        position += len(each.text)
    return Rendering("".join(each.text for each in renderings), tuple(runs))


def agreement(prompt: str, text: str) -> tuple[list[tuple[int, int]], bool]:
    """Match two texts from their beginnings, white space aside.

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
    r"""Give where `text` goes on after `prompt`, where the two agree but for white space; None where they do not.

    White space that follows the agreement is skipped if the prompt ends with white space: it was supplied already.

    Example:
        >>> after_prompt("Q: a\nA:\n", "Q: a A: yes")
        8
        >>> after_prompt("Q: b", "Q: a A: yes") is None
        True
    """
    pairs, whole = agreement(prompt, text)
    if not whole or not pairs:
        return None
    at = pairs[-1][1] + 1
    if prompt[-1:].isspace():
        while at < len(text) and text[at].isspace():
            at += 1
    return at


def common_length(one: str, other: str) -> int:
    """Give the length of the longest common beginning.

    Example:
        >>> common_length("<think>", "</think>")
        1
    """
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low = 0
    while low < length:  # halving: comparing slices is fast
        middle = (low + length + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            length = middle - 1
    return low
