"""Loss and perplexity per trained token of held-out conversations.

The same examples that training would make, the same weights, one division at the end, so the figure does not depend on
how the examples are batched. Questionable on purpose: this runs transformers' own forward with padding, not training's flat
one: an evaluation that shares the trainer's mistakes would not show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instil.conversation import Conversation, Example
from instil.evaluation.intervals import Interval, resampled_interval
from instil.generation.engine import Engine

LOGIT_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """Loss of held-out conversations.

    Attributes:
        loss: Weighted mean loss per trained token, with a bootstrap interval over conversations.
        perplexity: e to the loss, with the interval's ends.
        num_tokens: Trained tokens.
        refused: Conversations that could not be encoded.
        each: Every conversation's sum of weighted losses, and its trained weight; 0 where nothing in it is trained.
    """

    loss: Interval
    perplexity: Interval
    num_tokens: int
    refused: int
    each: tuple[tuple[float, float], ...]


def heldout_loss(engine: Engine, conversations: Sequence[Conversation]) -> HeldoutLoss | None:
    """Measure conversations; None where the model has no template or nothing in them is trained."""
    chat = engine.chat
    if chat is None:
        return None
    examples: list[tuple[int, Example]] = []
    refused = 0
    for number, made in enumerate(chat.encode_many(conversations)):
        if isinstance(made, list):
            examples += [(number, example) for example in made if max(example.weights, default=0) > 0]
        else:
            refused += 1
    if not examples:
        return None
    losses, weights = np.zeros(len(conversations)), np.zeros(len(conversations))
    num_tokens = 0
    for batch in _batches(engine.model, examples):
        for (number, example), loss in zip(batch, _loss_sums(engine.model, [e for _, e in batch]), strict=True):
            losses[number] += loss
            weights[number] += sum(example.weights)
            num_tokens += sum(weight > 0 for weight in example.weights)
    has = weights > 0
    each = tuple(zip(losses.tolist(), weights.tolist(), strict=True))
    losses, weights = losses[has], weights[has]
    found = resampled_interval(len(losses), lambda rows: losses[rows].sum(-1) / weights[rows].sum(-1))
    perplexity = Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n)
    return HeldoutLoss(found, perplexity, num_tokens, refused, each)


def _batches(model: Any, examples: Sequence[tuple[int, Example]]) -> Iterator[list[tuple[int, Example]]]:
    """Give examples of like length together, as many as their logits fit into a fixed share of memory."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    most = max(1, LOGIT_BYTES // (4 * vocabulary))
    batch: list[tuple[int, Example]] = []
    for item in sorted(examples, key=lambda item: -len(item[1].token_ids)):
        longest = len(batch[0][1].token_ids) if batch else 0
        if batch and (len(batch) + 1) * longest > most:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _loss_sums(model: Any, examples: Sequence[Example]) -> list[float]:
    """Give each example's weighted sum of token losses, in fp32, padding on the right."""
    import torch

    from instil.generation.decoding import answering

    device = next(model.parameters()).device
    longest = max(len(example.token_ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    weights, mask = torch.zeros(len(examples), longest), torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.token_ids)
        ids[row, :length] = torch.as_tensor(np.asarray(example.token_ids), dtype=torch.long)
        weights[row, :length] = torch.as_tensor(np.asarray(example.weights), dtype=torch.float32)
        mask[row, :length] = 1
    ids, weights, mask = ids.to(device), weights.to(device), mask.to(device)
    with torch.no_grad(), answering(model):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(examples), longest - 1)
        sums: list[float] = (losses * weights[:, 1:]).double().sum(-1).tolist()
    return sums
