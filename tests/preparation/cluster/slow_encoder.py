"""An encoder that takes its time, so that something can be killed while it works."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.preparation.encoder_of_bytes import EncoderOfBytes

from instil.conversation import Conversation, Example


class SlowEncoder(EncoderOfBytes):
    """Sleeps for each chunk, and notes the chunk, by its first row, in a folder when it begins."""

    def __init__(self, notes: Path, seconds: float) -> None:
        self.notes, self.seconds = str(notes), seconds

    def encode_many(self, conversations: Iterable[Conversation]) -> Iterator[list[Example] | Exception]:
        conversations = list(conversations)
        first = conversations[0].place
        assert first is not None
        Path(self.notes, f"{first.row}-{os.getpid()}-{secrets.token_hex(4)}").touch()
        time.sleep(self.seconds)
        return super().encode_many(conversations)


def begun(notes: Path) -> list[int]:
    """Return the first rows of the chunks that were begun, one for each time."""
    return sorted(int(path.name.split("-")[0]) for path in notes.iterdir())
