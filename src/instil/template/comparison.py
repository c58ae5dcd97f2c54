"""Find where two templates print different texts, or two tokenizers turn equal texts into different ids.

Used by ``instil template compare``.

Why: if both templates refuse a conversation they count as equal, because the wording of a refusal is never trained.
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
    """One side of the comparison: a template, and optionally the tokenizer that turns its texts into ids."""

    name: str
    template: ChatTemplate
    encode: Encode | None = None

    def text(self, conversation: Conversation, *, add_generation_prompt: bool) -> str | None:
        """Return the rendered text, or None if the template refuses the conversation."""
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
    """A conversation that two templates print differently.

    Attributes:
        conversation: Name of the conversation.
        found: What differs, in one line.
        lines: A diff of the texts, or the first ids that differ.
    """

    conversation: str
    found: str
    lines: tuple[str, ...]


def compare_templates(one: Side, other: Side, conversations: Mapping[str, Conversation]) -> Iterator[Difference | None]:
    """Compare two templates on conversations, each with and without a generation prompt.

    Yields:
        For every conversation, in order: the first difference, or None.
    """
    for name, conversation in conversations.items():
        yield _compare(one, other, name, conversation)


def _compare(one: Side, other: Side, name: str, conversation: Conversation) -> Difference | None:
    for prompt in (False, True):
        label = name + (", generation prompt" if prompt else "")
        first = one.text(conversation, add_generation_prompt=prompt)
        second = other.text(conversation, add_generation_prompt=prompt)
        if first is None and second is None:  # both refuse: see *Why* above
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
    r"""Yield a line diff with visible white space: ``·`` for spaces at the ends of a line, ``⏎`` for a line break.

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
