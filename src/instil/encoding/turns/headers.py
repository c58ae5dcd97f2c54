"""What a template prints around turns: the control tokens of its headers, and whether it has a place for reasoning.

Found on probe conversations. Questionable on purpose: tokens of a reasoning block that the generation prompt opens are no header: an answer
may carry ``<think>`` as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from instil.conversation import Message
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.turns.rendering_pieces import common_length
from instil.encoding.turns.stop_tokens import ASK, ASK_AGAIN, SAY
from instil.errors import TemplateError
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

_SYSTEM = Message("system", "a plain rule")


def header_tokens(chat: ChatTokenizer, added: Iterable[str]) -> set[str]:
    """Give the control tokens that open turns: those that the template prints before a person's text, and in the generation prompt."""
    every = ControlTokens(added, control=(), guarded=())
    found: set[str] = set()
    for messages in ([_SYSTEM, ASK], [ASK], [ASK, SAY, ASK_AGAIN]):
        rendering = _rendered(chat, messages)
        if rendering is None:
            continue
        end = 0
        for index, message in enumerate(messages):
            spans = rendering.spans(index)
            if not spans:
                continue
            if message.role != "assistant":
                found |= {each.text for each in every.find(rendering.text, end, spans[0][0])}
            end = spans[-1][1]
        prompt = _rendered(chat, messages, add_generation_prompt=True)
        answered = _rendered(chat, [*messages, SAY])
        if prompt is not None and answered is not None:
            own = answered.spans(len(messages))
            agreed = min(common_length(prompt.text, answered.text), own[0][0] if own else len(answered.text))
            found |= {each.text for each in every.find(prompt.text, min(end, agreed), agreed)}
    return {text for text in found if not _is_block(text, chat)}


def takes_reasoning(chat: ChatTokenizer) -> bool:
    """Tell whether the template prints reasoning, or serving's prompt opens a block for it."""
    thought = replace(SAY, reasoning="a plain thought")
    rendering = _rendered(chat, [ASK, thought])
    if rendering is not None and rendering.spans(1, "reasoning"):
        return True
    prompt, answered = _rendered(chat, [ASK], add_generation_prompt=True), _rendered(chat, [ASK, SAY])
    if prompt is None or answered is None:
        return False
    end = prompt.text.rstrip()
    return end.endswith("<think>") and not answered.text.startswith(end)


def _is_block(text: str, chat: ChatTokenizer) -> bool:
    """Tell whether a token opens or closes a block within a turn: it has a counterpart with, or without, a slash."""
    if text in (chat.tokenizer.bos_token, chat.tokenizer.eos_token) or not text.startswith("<"):
        return False
    other = "<" + text[2:] if text.startswith("</") else "</" + text[1:]
    return any(other in source for source in chat.template.sources) or other in chat.added.values()


def _rendered(
    chat: ChatTokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> Rendering | None:
    try:
        return chat.template.render(
            messages,
            variables=chat.settings.template_variables,
            add_generation_prompt=add_generation_prompt,
        )
    except TemplateError:
        return None
