"""Text without a template: continuation, code, raw prompts and completions.

Contents are laid end to end; what the assistant says is trained and the end-of-text token follows the last of it. Serving gives the
prompt's ids as the tokenizer makes them by default, BOS included where it adds one. Questionable on purpose: a text that already begins with BOS gets no second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instil.conversation import Conversation, Message
from instil.encoding.grouping import EncodedTurn
from instil.errors import EncodingError
from instil.template.tracing import Rendering, Run

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


def plain_rendering(messages: Sequence[Message]) -> Rendering:
    """Lay the contents end to end.

    Raises:
        EncodingError: If a content is no text.

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
                f"message {index + 1}: content in parts in a plain conversation; expected text; join the parts"
            )
        if content:
            runs.append((position, position + len(content), (index, "content"), 0))
            texts.append(content)
            position += len(content)
    return Rendering("".join(texts), tuple(runs))


def plain_turns(chat: ChatTokenizer, conversation: Conversation) -> tuple[list[EncodedTurn], int]:
    """Encode the assistant's texts of a plain conversation, each behind all that came before it.

    Returns:
        The turns, and how many typed control tokens were made text.
    """
    rendering = plain_rendering(conversation.messages)
    assistant = {index for index, message in enumerate(conversation.messages) if message.role == "assistant"}
    bos, eos = chat.tokenizer.bos_token, chat.eos_id
    begins = len(bos) if bos and rendering.text.startswith(bos) else 0
    lead = list(leading_ids(chat)) or ([chat.tokenizer.bos_token_id] if begins else [])
    body = Rendering(
        rendering.text[begins:],
        tuple(
            (max(a - begins, 0), b - begins, s, o + max(begins - a, 0)) for a, b, s, o in rendering.runs if b > begins
        ),
    )
    cuts = chat.typed(body, assistant, str(conversation.place or "conversation"))
    turns: list[EncodedTurn] = []
    ids, done = lead, 0
    last = max(assistant, default=-1)
    for start, end, (index, _), _ in body.runs:
        text_cuts = [cut - start for cut in cuts if start < cut < end]
        part = body.text[start:end]
        made = chat.tokens.encode(part, text_cuts) if not done else chat.tokens.continued(part, text_cuts)
        done = end
        if index in assistant:
            completion = [*made, eos] if index == last and eos is not None else made
            weight = conversation.messages[index].weight
            turns.append(EncodedTurn(index, list(ids), completion, 1.0 if weight is None else weight))
        ids = [*ids, *made]
    if not ids and turns:
        turns = []
    return turns, len(cuts)


def leading_ids(chat: ChatTokenizer) -> list[int]:
    """Give the ids that the tokenizer puts before every text by default (its BOS token, or nothing)."""
    text = "a"
    with_special = list(chat.tokenizer(text)["input_ids"])
    bare = chat.tokens.encode(text)
    for start in range(len(with_special) - len(bare) + 1):
        if with_special[start : start + len(bare)] == bare:
            return with_special[:start]
    return []


def plain_prompt(chat: ChatTokenizer, conversation: Conversation) -> list[int]:
    """Give the ids that a plain text is continued from."""
    asked = Conversation((*conversation.messages, Message("assistant", "a")), place=conversation.place, plain=True)
    return list(plain_turns(chat, asked)[0][-1].prompt_ids)
