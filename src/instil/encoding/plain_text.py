"""Plain text: continuation, code, raw prompts and completions, without a template.

Contents are joined end to end. The assistant's texts are trained, and the end-of-text token follows the last of them.
Serving gives the prompt's ids as the tokenizer makes them by default, with BOS if it adds one; a text that already
begins with BOS does not get a second one.
"""

from __future__ import annotations

from instil.conversation import Conversation, Message
from instil.encoding.context import EncodingContext, assistant_indices, place_of
from instil.encoding.grouping import EncodedTurn
from instil.encoding.token_texts import weigh_parts
from instil.encoding.turns.rendering_pieces import joined, piece, plain_rendering
from instil.encoding.weights import turn_weight
from instil.template.tracing import Rendering


def plain_turns(context: EncodingContext, conversation: Conversation) -> tuple[list[EncodedTurn], int]:
    """Encode the assistant's texts of a plain conversation, each with everything before it as its prompt.

    Returns:
        The turns, those of weight 0 too, and how many typed control tokens were made ordinary text.
    """
    rendering = plain_rendering(conversation.messages)
    bos, eos_id = context.tokenizer.bos_token, context.eos_id
    starts_with_bos = bool(bos) and rendering.text.startswith(bos)
    ids = list(leading_ids(context)) or ([context.tokenizer.bos_token_id] if starts_with_bos else [])
    body = piece(rendering, len(bos) if starts_with_bos else 0)
    assistant = assistant_indices(conversation)
    breaks = context.typed_breaks(body, assistant, place_of(conversation))
    last_answer = max(assistant, default=-1)
    turns: list[EncodedTurn] = []
    for start, end, (index, _), _ in body.runs:
        text = body.text[start:end]
        text_breaks = [at - start for at in breaks if start < at < end]
        # Only the first text is tokenized as the beginning of a text: SentencePiece would put a space before the
        # others.
        is_first = start == 0
        text_ids = (
            context.pieces.encode(text, text_breaks) if is_first else context.pieces.encode_more(text, text_breaks)
        )
        if index in assistant:
            completion = [*text_ids, eos_id] if index == last_answer and eos_id is not None else text_ids
            turn = EncodedTurn(index, list(ids), completion, turn_weight(conversation.messages[index]))
            tail = Rendering(context.added.get(completion[-1], "") if len(completion) > len(text_ids) else "")
            turns.append(weigh_parts(context, conversation, turn, joined(piece(body, start, end), tail)))
        ids = [*ids, *text_ids]
    return (turns if ids else []), len(breaks)


def leading_ids(context: EncodingContext) -> list[int]:
    """Return the ids that the tokenizer puts before every text by default: its BOS token, or nothing."""
    text = "a"
    with_special = list(context.tokenizer(text)["input_ids"])
    bare = context.pieces.encode(text)
    for start in range(len(with_special) - len(bare) + 1):
        if with_special[start : start + len(bare)] == bare:
            return with_special[:start]
    return []


def plain_prompt(context: EncodingContext, conversation: Conversation) -> list[int]:
    """Return the ids that a plain text is continued from."""
    continued = Conversation((*conversation.messages, Message("assistant", "a")), place=conversation.place, plain=True)
    turns, _ = plain_turns(context, continued)
    return list(turns[-1].prompt_ids)
