"""The characters that each token of an example stands for, found by decoding one token more at a time.

`token_origins` shows them; `encoder` needs them for turns whose parts have weights of their own.

Why: tokens are decoded instead of asking the tokenizer for offsets, because an example is put together from pieces,
and because offsets of some tokenizers leave out the space before a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from instil.conversation import Conversation, Example
from instil.encoding.context import EncodingContext, place_of
from instil.encoding.grouping import EncodedTurn
from instil.encoding.weights import character_weights, token_weights
from instil.errors import EncodingError
from instil.template.tracing import Rendering

_WINDOW = 6
_MAX_TOKENS_PER_CHARACTER = 24
_LEAD = 4
"""Tokens of the prompt that are decoded before a completion: some tokenizers drop the first space of a text."""


def weigh_parts(
    context: EncodingContext, conversation: Conversation, turn: EncodedTurn, completion: Rendering
) -> EncodedTurn:
    """Return a turn with the weight of each of its tokens, if its message has weights of parts.

    Args:
        context: The tokenizer.
        conversation: The turn's conversation.
        turn: The turn in ids.
        completion: What the model must generate, with its origins.

    Raises:
        EncodingError: If the tokenizer changes characters of the answer.
    """
    message = conversation.messages[turn.index]
    if not message.part_weights:
        return turn
    place = f"{place_of(conversation)}: message {turn.index + 1}"
    text = completion.text
    spans = token_spans(context, turn.prompt_ids, turn.completion_ids, text, place=place)
    weights = character_weights(message, completion, index=turn.index)
    return replace(turn, token_weights=token_weights(weights, spans, text))


def token_spans(
    context: EncodingContext, prompt_ids: Sequence[int], completion_ids: Sequence[int], text: str, *, place: str
) -> list[tuple[int, int]]:
    """Return the half-open range of characters that each token of a completion stands for.

    White space may differ from the text, as some tokenizers change it. A token that only begins a character has an
    empty range before it.

    Args:
        context: The tokenizer.
        prompt_ids: The ids before the completion.
        completion_ids: The completion's ids.
        text: The completion's text.
        place: What an error starts with.

    Raises:
        EncodingError: If the tokenizer changes characters other than white space.
    """
    lead = list(prompt_ids[-_LEAD:])
    tokens = list(token_texts(context, [*lead, *completion_ids]))[len(lead) :]
    spans: list[tuple[int, int]] = []
    at = 0
    is_exact = "".join(tokens) == text
    for token in tokens:
        if is_exact:
            start, at = at, at + len(token)
        else:
            start, at = _span_without_space(token, text, at)
        if at > len(text):
            raise EncodingError(
                f"{place}: the tokenizer changes this answer ({token!r} is not in it), so that the weights of its parts "
                "have no tokens. Expected a tokenizer that keeps the text. Give the message one weight."
            )
        spans.append((start, at))
    return spans


def _span_without_space(token: str, text: str, at: int) -> tuple[int, int]:
    """Return where the visible characters of a token stand next in a text; behind the text if they do not."""
    start = at
    for number, character in enumerate(token.strip()):
        if character.isspace():
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if text[at : at + 1] != character:
            return at, len(text) + 1
        start = at if number == 0 else start
        at += 1
    return start, at


class TextsOfTokens:
    """The texts of ids as a tokenizer decodes them; what an example shows in a notebook (`Example.token_texts`).

    Why: it stays in this process. A pickled or copied example would otherwise take the tokenizer along.
    """

    def __init__(self, context: EncodingContext) -> None:
        self._context = context

    def texts(self, ids: Sequence[int], *, before: Sequence[int] = ()) -> list[str]:
        """Return the text of each id; see `instil.conversation.TokenTexts`."""
        return list(token_texts(self._context, [*before, *ids]))[len(before) :]

    def __deepcopy__(self, memo: object) -> TextsOfTokens:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def with_texts(context: EncodingContext, examples: Sequence[Example]) -> list[Example]:
    """Return examples that know the texts of their ids."""
    texts = TextsOfTokens(context)
    return [replace(example, token_texts=texts) for example in examples]


def token_texts(context: EncodingContext, ids: Sequence[int]) -> Iterator[str]:
    """Yield the characters that each token adds; a character made by several tokens belongs to the last of them.

    Tokens are decoded in short windows, so that the cost is proportional to their number.
    """
    start, done = 0, ""
    for at in range(len(ids)):
        window = context.decode(ids[start : at + 1])
        if window.endswith("�") and at + 1 < len(ids) and at - start < _MAX_TOKENS_PER_CHARACTER:
            yield ""
            continue
        yield window[len(done) :] if window.startswith(done) else window
        start, done = _next_window(context, ids, start, at, window)


def _next_window(context: EncodingContext, ids: Sequence[int], start: int, at: int, window: str) -> tuple[int, str]:
    if at - start < _WINDOW:
        return start, window
    start = at - 1
    return start, context.decode(ids[start : at + 1])
