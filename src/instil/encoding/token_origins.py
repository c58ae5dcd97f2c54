"""Where each token of an example comes from: for the coloured view, the HTML page and the chat's ``/tokens``.

Questionable on purpose: the tokens are those of `encode`, not of another pass; only their places in the text are found afterwards, by
decoding one token more at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instil.conversation import Conversation, Example
from instil.encoding.turns.rendering_pieces import laid
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """One token of an example.

    Attributes:
        id: Token id.
        text: The characters that it adds to the text; empty for a part of a character that a later token ends.
        weight: Weight of predicting it.
        message: Index of the message it comes from, -1 for tools and template variables, None for what the template printed.
        field: Field of the message, None for what the template printed.
    """

    id: int
    text: str
    weight: float
    message: int | None
    field: str | None


@dataclass(frozen=True, slots=True)
class ExplainedExample:
    """An example and where each of its tokens comes from."""

    example: Example
    tokens: tuple[TokenOrigin, ...]


def explain(chat: ChatTokenizer, conversation: Any) -> list[ExplainedExample]:
    """Give the examples of a conversation with the origin of every token.

    Raises:
        EncodingError, TemplateError: As `ChatTokenizer.encode`.
    """
    from instil.encoding.encoder import turn_texts
    from instil.encoding.plain_text import plain_rendering
    from instil.encoding.settings import EncodingReport

    examples = chat.encode(conversation)
    given = chat.conversation(conversation)
    if given.plain:
        rendering = plain_rendering(given.messages)
        return [ExplainedExample(example, _origins(chat, example, rendering)) for example in examples]
    last_only = chat.settings.train_on == "last"
    turns = turn_texts(chat, given, EncodingReport(), last_only=last_only)
    texts = {turn.index: laid(turn.prompt, turn.completion) for turn in turns}
    return [ExplainedExample(example, _origins(chat, example, texts[example.turns[-1]])) for example in examples]


def prompt_origins(chat: ChatTokenizer, conversation: Conversation | Sequence[Any]) -> tuple[TokenOrigin, ...]:
    """Give serving's prompt with the origin of every token; all weights are 0."""
    given = chat.conversation(conversation)
    ids = chat.prompt(given)
    rendering = chat.render(given, add_generation_prompt=True)
    return _origins(chat, Example(ids, [0.0] * len(ids)), rendering)


def _origins(chat: ChatTokenizer, example: Example, rendering: Rendering) -> tuple[TokenOrigin, ...]:
    owners: list[tuple[int, str] | None] = [None] * (len(rendering.text) + 1)
    for start, end, source, _ in rendering.runs:
        owners[start:end] = [source] * (end - start)
    origins: list[TokenOrigin] = []
    at = 0
    for number, weight, text in zip(
        example.token_ids, example.weights, token_texts(chat, example.token_ids), strict=True
    ):
        found, at = _locate(rendering.text, text, at)
        owner = owners[min(found, len(owners) - 1)]
        origins.append(TokenOrigin(int(number), text, float(weight), *(owner or (None, None))))
    return tuple(origins)


def _locate(text: str, token: str, at: int) -> tuple[int, int]:
    """Give where a token's first visible character stands at or soon after a position, and where the token ends.

    Tokenizers may add or leave out white space, so only what is visible is looked for.
    """
    core = token.strip()
    if not core:
        return at, at + len(token) if text.startswith(token, at) else at
    found = text.find(core, at, at + len(token) + 40)
    return (at, at) if found < 0 else (found, found + len(token.lstrip()))


def token_texts(chat: ChatTokenizer, ids: Sequence[int]) -> Iterator[str]:
    """Give the characters that each token adds; those of a character that several tokens make go to the last of them.

    Decoding goes in windows, so that the cost stays in proportion to the number of tokens.
    """
    start, done = 0, ""
    for at in range(len(ids)):
        window = chat.decode(ids[start : at + 1])
        if window.endswith("�") and at + 1 < len(ids) and at - start < 24:
            yield ""
            continue
        yield window[len(done) :] if window.startswith(done) else window
        start, done = _next_window(chat, ids, start, at, window)


def _next_window(chat: ChatTokenizer, ids: Sequence[int], start: int, at: int, window: str) -> tuple[int, str]:
    if at - start < 6:
        return start, window
    start = at - 1
    return start, chat.decode(ids[start : at + 1])
