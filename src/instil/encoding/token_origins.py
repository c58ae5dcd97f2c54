"""Where each token of an example comes from: for the coloured view, the HTML page and the chat's ``/tokens``.

The tokens are those of `encode`, not of a second pass. Their places in the text are found afterwards, by decoding one
token more at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instil.conversation import Conversation, Example
from instil.encoding.context import EncodingContext
from instil.encoding.encoder import find_turns
from instil.encoding.settings import EncodingReport
from instil.encoding.token_texts import token_texts
from instil.encoding.turns.rendering_pieces import joined, plain_rendering
from instil.template.tracing import Rendering


@dataclass(frozen=True, slots=True)
class TokenOrigin:
    """One token of an example.

    Attributes:
        id: Token id.
        text: The characters that it adds to the text; empty for a part of a character that a later token completes.
        weight: Weight of predicting it.
        message: Index of the message it comes from, -1 for tools and template variables, None if the template printed
            it.
        field: Field of the message, None if the template printed it.
    """

    id: int
    text: str
    weight: float
    message: int | None
    field: str | None


@dataclass(frozen=True, slots=True)
class ExplainedExample:
    """An example, and where each of its tokens comes from."""

    example: Example
    tokens: tuple[TokenOrigin, ...]


def explain_examples(
    context: EncodingContext, conversation: Conversation, examples: Sequence[Example]
) -> list[ExplainedExample]:
    """Return a conversation's examples with the origin of every token.

    Args:
        context: Tokenizer, template and settings.
        conversation: The conversation as it is encoded.
        examples: Its examples.
    """
    if conversation.plain:
        rendering = plain_rendering(conversation.messages)
        return [ExplainedExample(example, _origins(context, example, rendering)) for example in examples]
    turns = find_turns(context, conversation, EncodingReport(), train_on=context.settings.train_on)
    renderings = {turn.index: joined(turn.prompt, turn.completion) for turn in turns}
    return [
        ExplainedExample(example, _origins(context, example, renderings[example.turns[-1]])) for example in examples
    ]


def explain_prompt(
    context: EncodingContext, conversation: Conversation, prompt_ids: Sequence[int]
) -> tuple[TokenOrigin, ...]:
    """Return a conversation's prompt with the origin of every token; all weights are 0."""
    rendering = context.render_messages(conversation, conversation.messages, add_generation_prompt=True)
    return _origins(context, Example(prompt_ids, [0.0] * len(prompt_ids)), rendering)


def _origins(context: EncodingContext, example: Example, rendering: Rendering) -> tuple[TokenOrigin, ...]:
    owners: list[tuple[int, str] | None] = [None] * (len(rendering.text) + 1)
    for start, end, source, _ in rendering.runs:
        owners[start:end] = [source] * (end - start)
    origins: list[TokenOrigin] = []
    at = 0
    texts = token_texts(context, example.token_ids)
    for token_id, weight, text in zip(example.token_ids, example.weights, texts, strict=True):
        start, at = _locate(rendering.text, text, at)
        owner = owners[min(start, len(owners) - 1)]
        origins.append(TokenOrigin(int(token_id), text, float(weight), *(owner or (None, None))))
    return tuple(origins)


def _locate(text: str, token: str, at: int) -> tuple[int, int]:
    """Return where a token's first visible character stands at or soon after a position, and where the token ends.

    Tokenizers may add or leave out white space, so only visible characters are searched for.
    """
    visible = token.strip()
    if not visible:
        return at, at + len(token) if text.startswith(token, at) else at
    start = text.find(visible, at, at + len(token) + 40)
    return (at, at) if start < 0 else (start, start + len(token.lstrip()))
