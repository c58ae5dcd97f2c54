"""The two ways to encode conversations, with refusals as their text, so that results can be compared."""

from __future__ import annotations

from typing import Any

from instil.data.messages import as_conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.encoder import encode_conversation
from instil.encoding.plans.batch_encoder import BatchEncoder
from instil.errors import InstilError


def one_by_one(chat: ChatTokenizer, conversations: list[Any]) -> list[Any]:
    """Encode the certain way: every prompt is rendered."""
    results: list[Any] = []
    for conversation in conversations:
        try:
            examples, report = encode_conversation(chat.context, as_conversation(conversation), train_on="assistant")
            chat.report.add(report)
            results.append(examples)
        except InstilError as error:
            results.append(str(error))
    return results


def in_batches(chat: ChatTokenizer, conversations: list[Any]) -> list[Any]:
    """Encode the fast way: by plans, where there are any."""
    return [
        str(result) if isinstance(result, InstilError) else result
        for result in BatchEncoder(chat.context, chat.report).encode(conversations)
    ]
