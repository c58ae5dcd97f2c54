"""A stand-in for the chat tokenizer: a token a byte, so that preparation is tested without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

from instil.conversation import Conversation, Example
from instil.encoding.settings import EncodingSettings
from instil.errors import EncodingError


class EncoderOfBytes:
    """Encodes every conversation as its bytes; assistant text is trained. Told what to refuse by the text itself."""

    fingerprint = "bytes"
    settings = EncodingSettings()
    template = SimpleNamespace(prints_day=False)

    def read_rendered(self, conversation: Conversation) -> tuple[Conversation, None]:
        """Return the conversation: this encoder has no template."""
        return conversation, None

    def encode_many(self, conversations: Iterable[Conversation]) -> Iterator[list[Example] | Exception]:
        for conversation in conversations:
            ids: list[int] = []
            weights: list[float] = []
            for message in conversation.messages:
                text = str(message.content).encode()
                ids += text
                weight = (1.0 if message.weight is None else message.weight) if message.role == "assistant" else 0.0
                weights += [weight] * len(text)
            if b"REFUSE" in bytes(ids):
                yield EncodingError(f"{conversation.place}: cannot be decided")
            elif len(ids) > 2000:
                yield []
            else:
                weights[:1] = [0.0]
                yield [Example(ids, weights, conversation.place, (1,), None, bytes(ids).count(b"<|"))]
