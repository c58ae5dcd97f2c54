"""The weight of a token: the one place that decides it.

The weight of a token is the factor of the loss of *predicting that token*; 0 makes it context. In order of application:

1. `trained_turns` chooses the turns: all of the assistant's, or the last one (`data.train_on`), without those of
   weight 0 and those whose every part has weight 0.
2. `example_weights` gives every token of a trained turn, from the first the model must generate to the stop token, that
   turn's weight (`turn_weight`: the message's own, or 1). Every other token gets 0, and so does the first token of an
   example, because nothing precedes it.
   In a turn with weights of parts (`Message.part_weights`), `character_weights` multiplies the weight of a part's
   characters. What the template prints between two parts gets the smaller of their weights. What it prints elsewhere,
   the stop token included, gets the turn's. `token_weights` gives a token the smallest weight of its characters: a
   token that straddles two parts is never trained more than either. White space at a token's ends does not count, so
   `` 4`` behind an untrained ``No,`` is trained.
3. `train_every_token` gives every token of weight 0 the weight 1 for ``data.train_on: all``, also in turns of weight 0.
4. `weights_of_part` keeps the weights of a part of an example that was too long.
5. `scale_weights` multiplies by the weight of the data source (`data.sources[].weight`).

Flow: `encoder` calls 1 to 3, `truncation` 4, `preparation.encode_rows` 5. `plans.batch_encoder` calls 2: a plan has
chosen its turns by 1, and exists only for ``train_on: assistant`` and answers that are trained whole or not at all. Which
characters a turn must contain is decided in `turns.completion`. Nothing is shifted
here: the loss shifts once (`model.loss.token_loss`), and the step divides once by the sum of all weights
(`training.step.take_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instil.conversation import Example, Message
from instil.encoding.settings import TrainOn
from instil.template.tracing import Rendering

DEFAULT_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class TrainedSpan:
    """Tokens of one example that the model must generate: a half-open range, and the weight of each of them."""

    start: int
    end: int
    weight: float = DEFAULT_WEIGHT


def turn_weight(message: Message) -> float:
    """Return the weight of every token that the model must generate in a message.

    Example:
        >>> turn_weight(Message("assistant", "Hi")), turn_weight(Message("assistant", "Hi", weight=0.25))
        (1.0, 0.25)
        >>> turn_weight(Message("user", "Hi", weight=1.0))
        0.0
    """
    if message.role != "assistant":
        return 0.0
    return DEFAULT_WEIGHT if message.weight is None else message.weight


def trained_turns(messages: Sequence[Message], *, train_on: TrainOn = "assistant") -> list[tuple[int, float]]:
    """Return message index and weight of every turn that is trained.

    With ``train_on: last`` only the last assistant turn counts; if its weight is 0, no turn is trained.

    Example:
        >>> chat = [Message("assistant", "a"), Message("user", "b"), Message("assistant", "c", weight=0.5)]
        >>> trained_turns(chat), trained_turns(chat, train_on="last")
        ([(0, 1.0), (2, 0.5)], [(2, 0.5)])
        >>> trained_turns([Message("assistant", "a", weight=0.0)])
        []
    """
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if train_on == "last":
        turns = turns[-1:]
    return [(index, turn_weight(messages[index])) for index in turns if has_trained_text(messages[index])]


def has_trained_text(message: Message) -> bool:
    """Return whether anything in a message is trained: it is the assistant's, and not all of it has weight 0.

    Example:
        >>> from instil.conversation import PartWeight
        >>> has_trained_text(Message("assistant", "Hi", part_weights=(PartWeight("content", 0, 2, 0.0),)))
        False
        >>> has_trained_text(Message("assistant", "Hi", part_weights=(PartWeight("content", 0, 1, 0.0),)))
        True
    """
    if not turn_weight(message) > 0:
        return False
    if not message.part_weights or message.tool_calls:
        return True
    untrained = sum(part.end - part.start for part in message.part_weights if part.weight == 0)
    content = message.content or ""
    texts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content]
    return untrained < sum(map(len, texts)) + len(message.reasoning or "")


def character_weights(message: Message, completion: Rendering, *, index: int) -> list[float]:
    """Return the weight of each character of what the model must generate in a turn with weights of parts.

    Args:
        message: The turn's message.
        completion: What the model must generate, with its origins.
        index: The turn's message index, by which origins name it.

    Example:
        >>> from instil.conversation import PartWeight
        >>> message = Message("assistant", "No, 4", weight=0.5, part_weights=(PartWeight("content", 0, 4, 0.0),))
        >>> character_weights(message, Rendering("No, 4<eos>", ((0, 5, (1, "content"), 0),)), index=1)
        [0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    turn = turn_weight(message)
    weights = [turn] * len(completion.text)
    previous_end = None  # of the last run of the content
    for start, end, (owner, field), offset in completion.runs:
        if owner != index:
            continue
        for part in message.part_weights:
            first, last = max(part.start, offset), min(part.end, offset + end - start)
            if part.field == field and first < last:
                at = start - offset
                weights[at + first : at + last] = [turn * part.weight] * (last - first)
        if field.startswith("content"):
            if previous_end is not None and previous_end < start:
                between = min(weights[previous_end - 1], weights[start])
                weights[previous_end:start] = [between] * (start - previous_end)
            previous_end = end
    return weights


def token_weights(weights: Sequence[float], spans: Sequence[tuple[int, int]], text: str) -> list[float]:
    """Return the weight of each token of a text whose characters have weights: the smallest of its characters'.

    Args:
        weights: The weight of each character.
        spans: Half-open range of each token's characters. An empty one belongs to the next token's first character.
        text: The text.

    Example:
        >>> token_weights([0.0, 0.0, 1.0], [(0, 1), (1, 3)], ", 4")
        [0.0, 1.0]
    """
    tokens: list[float] = []
    for start, end in spans:
        visible = [at for at in range(start, end) if not text[at].isspace()]
        own = weights[visible[0] : visible[-1] + 1] if visible else weights[start : max(end, start + 1)]
        tokens.append(min(own, default=weights[-1]))
    return tokens


def example_weights(num_tokens: int, spans: Sequence[TrainedSpan]) -> list[float]:
    """Return the weight of each token of an example.

    Args:
        num_tokens: Length T of the example.
        spans: The tokens that the model must generate. A span that starts at token 0 loses its first token.

    Returns:
        T weights: the span's inside a span, 0 outside of all.

    Example:
        >>> example_weights(6, [TrainedSpan(1, 3), TrainedSpan(4, 6, weight=0.5)])
        [0.0, 1.0, 1.0, 0.0, 0.5, 0.5]
        >>> example_weights(2, [TrainedSpan(0, 2)])
        [0.0, 1.0]
    """
    weights = [0.0] * num_tokens
    for span in spans:
        weights[span.start : span.end] = [span.weight] * (span.end - span.start)
    _first_token_is_context(weights)
    return weights


def train_every_token(weights: Sequence[float], *, num_tokens: int) -> list[float]:
    """Return weights without zeros for ``train_on: all``: a token without a weight gets 1, the first one stays context.

    Args:
        weights: Weights of the first tokens of the example.
        num_tokens: Length T of the example; tokens behind `weights` (turns after the last answer) get 1 too.

    Example:
        >>> train_every_token([0.0, 0.0, 0.5], num_tokens=4)
        [0.0, 1.0, 0.5, 1.0]
    """
    trained = [weight or DEFAULT_WEIGHT for weight in weights]
    trained += [DEFAULT_WEIGHT] * (num_tokens - len(trained))
    _first_token_is_context(trained)
    return trained


def weights_of_part(weights: Sequence[float], start: int, end: int) -> list[float]:
    """Return the weights of the tokens ``start:end`` of an example, which become an example of their own.

    Example:
        >>> weights_of_part([0.0, 1.0, 1.0, 1.0], 2, 4)
        [0.0, 1.0]
    """
    part = list(weights[start:end])
    _first_token_is_context(part)
    return part


def scale_weights(example: Example, factor: float) -> Example:
    """Return an example whose weights are multiplied by its source's weight, in float32 as they are stored.

    Example:
        >>> scale_weights(Example([5, 6], [0.0, 1.0]), 0.5).weights.tolist()
        [0.0, 0.5]
    """
    if factor == 1.0:
        return example
    weights: Any = np.asarray(example.weights, dtype=np.float32) * factor
    return replace(example, weights=weights)


def is_trained(example: Example) -> bool:
    """Return whether any token of an example is trained.

    Example:
        >>> is_trained(Example([5, 6], [0.0, 1.0])), is_trained(Example([5, 6], [0.0, 0.0]))
        (True, False)
    """
    weights = example.weights
    return bool(weights.any() if isinstance(weights, np.ndarray) else any(weights))


def _first_token_is_context(weights: list[float]) -> None:
    if weights:
        weights[0] = 0.0
