"""Where two templates print different texts, or two tokenizers make different ids of them.

Used by ``instil template compare``. Questionable on purpose: a template that refuses a conversation is compared by that fact alone, not by
the words of its refusal.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from instil.conversation import Conversation
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a template, and the tokenizer that turns its texts into ids where there is one."""

    name: str
    template: ChatTemplate
    encode: Encode | None = None

    def text(self, conversation: Conversation, *, add_generation_prompt: bool) -> str | None:
        """Render; None where the template refuses."""
        try:
            return self.template.render_text(
                conversation.messages,
                tools=conversation.tools,
                variables=conversation.variables,
                add_generation_prompt=add_generation_prompt,
            )
        except TemplateError:
            return None


@dataclass(frozen=True, slots=True)
class Difference:
    """One conversation that two templates print differently.

    Attributes:
        conversation: Its name.
        found: What differs, in one line.
        lines: The texts side by side as a diff, or the first ids that differ.
    """

    conversation: str
    found: str
    lines: tuple[str, ...]


def compare_templates(one: Side, other: Side, conversations: Mapping[str, Conversation]) -> Iterator[Difference | None]:
    """Compare two templates on conversations, each with and without a generation prompt.

    Yields:
        For every conversation, in order, a difference or None.
    """
    for name, conversation in conversations.items():
        yield _compare(one, other, name, conversation)


def _compare(one: Side, other: Side, name: str, conversation: Conversation) -> Difference | None:
    for prompt in (False, True):
        label = name + (", generation prompt" if prompt else "")
        first = one.text(conversation, add_generation_prompt=prompt)
        second = other.text(conversation, add_generation_prompt=prompt)
        if first is None and second is None:
            continue
        if first is None or second is None:
            refuser = one.name if first is None else other.name
            return Difference(label, f"only {refuser} refuses it", ())
        if first != second:
            return Difference(label, "the texts differ", tuple(text_diff(first, second)))
        if one.encode and other.encode:
            ids, others = list(one.encode(first)), list(other.encode(second))
            if ids != others:
                at = next(
                    (n for n, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others))
                )
                found = f"the texts are equal, the ids differ from token {at} on"
                return Difference(label, found, (f"- {ids[at : at + 8]}", f"+ {others[at : at + 8]}"))
    return None


def text_diff(one: str, other: str) -> Iterator[str]:
    r"""Give a diff by lines in which white space can be seen (``·`` at a line's ends, ``⏎`` for its break).

    Example:
        >>> list(text_diff("a\nb ", "a\nc"))
        ['  a⏎', '- b·', '+ c']
    """
    for line in difflib.ndiff(_visible(one), _visible(other)):
        if not line.startswith("?"):
            yield line


def _visible(text: str) -> list[str]:
    lines = []
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\n")
        stripped = body.strip(" ")
        left = len(body) - len(body.lstrip(" ")) if stripped else 0
        right = len(body) - left - len(stripped)
        lines.append("·" * left + stripped + "·" * right + ("⏎" if line.endswith("\n") else ""))
    return lines
