r"""Blocks that serving's prompt supplies: ``<think>`` left open, or whole and empty.

Only needed where the template itself does not show how a block with reasoning looks (QwQ and DeepSeek-R1 drop it from history): there the
opening tag must have a closing tag of the same name that the template's source or the tokenizer knows. Questionable on purpose: the white space around the
closing tag mirrors the opening one's, as these models themselves write it: after ``<think>\n`` comes ``\n</think>\n\n``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_OPEN = re.compile(r"\s*(?P<open><(?P<name>[A-Za-z][\w:|.-]*)>|\[(?P<square>[A-Z_]+)\])(?P<inside>\s*)")


def supplied_block(prompt: str, rendering: str, agreed: int) -> str | None:
    r"""Give what the prompt has beyond its agreement with the rendering, if that begins with an opening tag.

    Args:
        prompt: Serving's prompt.
        rendering: The rendering that goes on with the answer.
        agreed: How many characters of both are the same.

    Example:
        >>> supplied_block("<a>\n<think>\n", "<a>\n<b>yes", 5)
        '<think>\n'
    """
    while agreed > 0 and not _OPEN.match(prompt[agreed:]):
        if prompt[agreed - 1] not in "<[" and not prompt[agreed - 1].isspace() and not prompt[agreed - 1].isalpha():
            return None
        agreed -= 1
    match = _OPEN.match(prompt[agreed:])
    return prompt[agreed:] if match else None


def closing_text(block: str, *, knows: Callable[[str], bool]) -> str | None:
    r"""Give what closes a block: empty where it is whole, None where no closing tag is known.

    Args:
        block: What the prompt supplies, from the opening tag on.
        knows: Tells whether a text is known to the tokenizer or the template.

    Example:
        >>> closing_text("<think>\n", knows=lambda text: True)
        '\n</think>\n\n'
        >>> closing_text("<think>\n\n</think>\n\n", knows=lambda text: True)
        ''
    """
    match = _OPEN.match(block)
    if match is None:
        return None
    close = f"</{match['name']}>" if match["name"] else f"[/{match['square']}]"
    rest = block[match.end() :]
    if rest.strip() == close:
        return ""
    if rest or not knows(close):
        return None
    return f"\n{close}\n\n" if "\n" in match["inside"] else close
