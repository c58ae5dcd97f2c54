"""What a template prints around turns: the control tokens of its headers, and whether it has a place for reasoning.

Both are found by rendering probe conversations. Why: tokens of a reasoning block that the generation prompt opens are
not header tokens, because an answer may contain ``<think>`` as text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from instil.conversation import Message
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.turns.inline_reasoning import OPENING_TAGS
from instil.encoding.turns.reasoning_block import closing_text
from instil.encoding.turns.rendering_pieces import common_length
from instil.encoding.turns.stop_tokens import ASK, ASK_AGAIN, SAY, Render
from instil.errors import TemplateError
from instil.template.tracing import Rendering

_SYSTEM = Message("system", "a plain rule")


def header_tokens(
    render: Render, added: Sequence[str], *, sources: Collection[str], bos: str | None, eos: str | None
) -> set[str]:
    """Return the added tokens that open turns.

    Args:
        render: Renders probe messages.
        added: Texts of the tokenizer's added tokens.
        sources: The template's Jinja sources.
        bos: Text of the tokenizer's bos token.
        eos: Text of its eos token.
    """
    every_added = ControlTokens(added, control=(), guarded=())
    headers: set[str] = set()
    for messages in ([_SYSTEM, ASK], [ASK], [ASK, SAY, ASK_AGAIN]):
        rendering = _render_or_none(render, messages)
        if rendering is None:
            continue
        # Headers of other roles: what stands between the end of one message's text and the start of the next one's.
        end = 0
        for index, message in enumerate(messages):
            spans = rendering.spans(index)
            if not spans:
                continue
            if message.role != "assistant":
                headers |= {token.text for token in every_added.find(rendering.text, end, spans[0][0])}
            end = spans[-1][1]
        # The assistant's header: what the generation prompt and the history that has an answer agree on.
        prompt = _render_or_none(render, messages, add_generation_prompt=True)
        answered = _render_or_none(render, [*messages, SAY])
        if prompt is not None and answered is not None:
            own = answered.spans(len(messages))
            agreed = min(common_length(prompt.text, answered.text), own[0][0] if own else len(answered.text))
            headers |= {token.text for token in every_added.find(prompt.text, min(end, agreed), agreed)}
    return {text for text in headers if text in (bos, eos) or not _is_block_tag(text, added, sources)}


def takes_reasoning(render: Render, *, tags: Collection[str]) -> bool:
    """Return whether the template prints reasoning, or opens a block for it in serving's prompt."""
    with_reasoning = _render_or_none(render, [ASK, replace(SAY, reasoning="a plain thought")])
    if with_reasoning is not None and with_reasoning.spans(1, "reasoning"):
        return True
    prompt, answered = _render_or_none(render, [ASK], add_generation_prompt=True), _render_or_none(render, [ASK, SAY])
    if prompt is None or answered is None:
        return False
    end = prompt.text.rstrip()
    opening = next((tag for tag in OPENING_TAGS if end.endswith(tag)), None)
    if opening is None or answered.text.startswith(end):
        return False
    return closing_text(opening, known=tags) is not None


def _is_block_tag(text: str, added: Sequence[str], sources: Collection[str]) -> bool:
    """Return whether a token opens or closes a block within a turn: a counterpart with, or without, a slash exists."""
    if not text.startswith("<"):
        return False
    counterpart = "<" + text[2:] if text.startswith("</") else "</" + text[1:]
    return counterpart in added or any(counterpart in source for source in sources)


def _render_or_none(
    render: Render, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> Rendering | None:
    try:
        return render(messages, add_generation_prompt=add_generation_prompt)
    except TemplateError:
        return None
