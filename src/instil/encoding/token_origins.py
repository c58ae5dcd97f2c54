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
from instil.views.html import escaped, frame
from instil.views.tokens import LEGEND, blocks_of, mask_html
from instil.views.turns import one_line

_MOST_EXAMPLES = 5
"""Examples of one conversation that a notebook shows."""


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


@dataclass(frozen=True, slots=True, repr=False)
class ExplainedExample:
    """An example, and where each of its tokens comes from.

    Attributes:
        example: The example.
        tokens: Its tokens.
        roles: The roles of its conversation's messages.
    """

    example: Example
    tokens: tuple[TokenOrigin, ...]
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return place, sizes and first words, on one line."""
        first = "".join(token.text for token in self.tokens[:40])
        return one_line("ExplainedExample", [*self.example.facts(), repr(first)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tokens by message, those that are trained in colour and brackets."""
        tokens = self.tokens
        weights = [token.weight for token in tokens]
        mask = mask_html(lambda start, end: tokens[start:end], weights, blocks_of(tokens, self.roles))
        return frame("Example", facts=self.example.facts(), body=f'{mask}<div class="legend">{escaped(LEGEND)}</div>')


class Explained(list[ExplainedExample]):
    """The explained examples of a conversation; in a notebook, their masks."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the first examples' masks."""
        more = f"{len(self) - _MOST_EXAMPLES:,} further examples not shown" if len(self) > _MOST_EXAMPLES else ""
        empty = "no example: nothing of the conversation is trained, or it is too long" if not self else ""
        masks = "".join(example._repr_html_() for example in self[:_MOST_EXAMPLES])
        return masks + (frame("Explained", facts=[more or empty]) if more or empty else "")


def explain_examples(context: EncodingContext, conversation: Conversation, examples: Sequence[Example]) -> Explained:
    """Return a conversation's examples with the origin of every token.

    Args:
        context: Tokenizer, template and settings.
        conversation: The conversation as it is encoded.
        examples: Its examples.
    """
    roles = tuple(message.role for message in conversation.messages)
    if conversation.plain:
        rendering = plain_rendering(conversation.messages)
        return Explained(
            ExplainedExample(example, _origins(context, example, rendering), roles) for example in examples
        )
    turns = find_turns(context, conversation, EncodingReport(), train_on=context.settings.train_on)
    renderings = {turn.index: joined(turn.prompt, turn.completion) for turn in turns}
    return Explained(
        ExplainedExample(example, _origins(context, example, renderings[example.turns[-1]]), roles)
        for example in examples
    )


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
