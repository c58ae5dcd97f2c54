"""Look at some rows of data as a model would see them: how many there are, and how long they become.

For `instil.api.new_recipe`. The sample is drawn from all rows, up to a limit, and encoded as training encodes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from instil.conversation import Conversation, Example
from instil.data import read
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import DataError, InstilError
from instil.screen import work

MOST_ROWS = 200_000
"""Rows that are read to count them and to draw from; more are known to be more."""
SAMPLED = 1000
"""Rows that are encoded."""


@dataclass(frozen=True, slots=True)
class DataSample:
    """What a sample shows of data.

    Attributes:
        rows: Rows that can be read, at most `MOST_ROWS`.
        bad_rows: Rows that cannot.
        refused: Sampled rows that cannot be encoded.
        first_error: The first error of either.
        lengths: Tokens of the sampled examples, sorted.
    """

    rows: int
    bad_rows: int
    refused: int
    first_error: str
    lengths: tuple[int, ...]

    @property
    def has_more(self) -> bool:
        """Whether there are more rows than were counted."""
        return self.rows >= MOST_ROWS

    def share_within(self, length: int) -> float:
        """Return the share of the sampled examples that have at most this many tokens."""
        return sum(tokens <= length for tokens in self.lengths) / len(self.lengths)


def sample_data(data: str, chat: ChatTokenizer, *, seed: int = 0) -> DataSample:
    """Count the rows of data and encode a sample of them.

    Args:
        data: File, folder, glob or Hub id.
        chat: Tokenizer and template, without a limit of length.
        seed: Seed of the draw.

    Raises:
        DataError: If no row of the data can be trained.

    Example:
        >>> import json, tempfile
        >>> chat = ChatTokenizer.from_pretrained("demo", "chatml")
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write(json.dumps({"question": "2+2?", "answer": "4"}))
        ...     file.flush()
        ...     sample_data(file.name, chat).rows
        1
    """
    errors: list[DataError] = []
    rows = 0
    drawn: list[Conversation] = []
    draw = random.Random(seed)
    with work("reading", unit="rows") as bar:
        for conversation in _readable(data, errors):
            rows += 1
            bar.advance()
            # Reservoir sampling: each row is in the sample with the same probability.
            if len(drawn) < SAMPLED:
                drawn.append(conversation)
            elif (at := draw.randrange(rows)) < SAMPLED:
                drawn[at] = conversation
    encoded = list(chat.encode_many(drawn))
    refused = [str(each) for each in encoded if isinstance(each, InstilError)]
    lengths = sorted(tokens for each in encoded if not isinstance(each, InstilError) for tokens in _lengths(each))
    first = str(errors[0]) if errors else refused[0] if refused else ""
    if not lengths:
        raise DataError(f"{data}: no row can be trained{f'; the first error: {first}' if first else ''}. Fix the data.")
    return DataSample(rows, len(errors), len(refused), first, tuple(lengths))


def _readable(data: str, errors: list[DataError]) -> Iterator[Conversation]:
    """Yield the conversations that can be read, at most `MOST_ROWS`, and collect the errors of the others."""
    return islice(read(data, on_bad_row="skip", on_error=errors.append), MOST_ROWS)


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [len(example.token_ids) for example in examples]
