"""Loss and perplexity per trained token of held-out conversations.

The conversations are encoded as for training, with the same weights. The sums are divided once, at the end, so the loss
does not depend on how the examples are batched.

Why: this runs the forward pass of transformers on padded batches and not training's flat one. An evaluation that shared
the trainer's code would share its errors and could not show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from instil.conversation import Conversation, Example
from instil.evaluation.intervals import Interval, resampled_interval
from instil.generation.decoding import answering, context_limit
from instil.generation.engine import Engine
from instil.screen import work

LOGIT_BYTES = 256 * 2**20
BLOCK_BYTES = 16 * 2**20
"""Bytes of the softmax that exist at once."""


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """Loss and perplexity of held-out conversations.

    Attributes:
        loss: Weighted mean loss per trained token, with a bootstrap interval over conversations.
        perplexity: e to the power of the loss; so are the ends of its interval.
        num_tokens: Number of trained tokens.
        refused: Number of conversations that could not be encoded.
        too_long: Number of examples that are longer than the model's context and were not measured.
        per_conversation: Sum of weighted losses and trained weight of each conversation. The weight is 0 if the
            conversation has no trained token.
        trained: For each conversation a hash of its trained tokens and their weights; None if it has none. Losses are
            the same thing only where the hashes are equal.
    """

    loss: Interval
    perplexity: Interval
    num_tokens: int
    refused: int
    too_long: int
    per_conversation: tuple[tuple[float, float], ...]
    trained: tuple[str | None, ...]


def heldout_loss(engine: Engine, conversations: Sequence[Conversation]) -> HeldoutLoss | None:
    """Compute the loss of conversations; return None if the model has no template or no token is trained."""
    chat = engine.chat
    if chat is None:
        return None
    examples: list[tuple[int, Example]] = []
    refused = too_long = 0
    limit = context_limit(engine.model)
    for number, encoded in enumerate(chat.encode_many(conversations)):
        if isinstance(encoded, list):
            trained = [example for example in encoded if max(example.weights, default=0) > 0]
            fitting = [example for example in trained if limit is None or len(example.token_ids) <= limit]
            too_long += len(trained) - len(fitting)
            examples += [(number, example) for example in fitting]
        else:
            refused += 1
    if not examples:
        return None
    losses, weights = np.zeros(len(conversations)), np.zeros(len(conversations))
    num_tokens = 0
    with work("held-out loss", total=len(examples), unit="examples") as bar:
        for batch in batches_of(engine.model, examples):
            for (number, example), loss in zip(batch, loss_sums(engine.model, [e for _, e in batch]), strict=True):
                losses[number] += loss
                weights[number] += sum(example.weights)
                num_tokens += sum(weight > 0 for weight in example.weights)
            bar.advance(len(batch))
    per_conversation = tuple(zip(losses.tolist(), weights.tolist(), strict=True))
    is_trained = weights > 0
    losses, weights = losses[is_trained], weights[is_trained]
    mean = resampled_interval(len(losses), lambda rows: losses[rows].sum(-1) / weights[rows].sum(-1))
    perplexity = Interval(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high), mean.n)
    trained_tokens = _trained_tokens(chat.tokenizer, examples, len(conversations))
    return HeldoutLoss(mean, perplexity, num_tokens, refused, too_long, per_conversation, trained_tokens)


def _trained_tokens(
    tokenizer: Any, examples: Sequence[tuple[int, Example]], num_conversations: int
) -> tuple[str | None, ...]:
    """Return a hash of the trained tokens of every conversation: their texts, since ids differ between tokenizers."""
    hashes: dict[int, Any] = {}
    for number, example in examples:
        trained = [
            (int(token_id), float(weight))
            for token_id, weight in zip(example.token_ids, example.weights, strict=True)
            if weight > 0
        ]
        texts = tokenizer.convert_ids_to_tokens([token_id for token_id, _ in trained])
        content = repr([(text, round(weight, 6)) for text, (_, weight) in zip(texts, trained, strict=True)])
        hashes.setdefault(number, sha256()).update(content.encode("utf-8", "surrogatepass"))
    return tuple(hashes[number].hexdigest() if number in hashes else None for number in range(num_conversations))


def batches_of(model: Any, examples: Sequence[tuple[int, Example]]) -> Iterator[list[tuple[int, Example]]]:
    """Yield batches of examples of similar length; the fp32 logits of a batch stay within `LOGIT_BYTES`."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    max_tokens = max(1, LOGIT_BYTES // (4 * vocabulary))
    batch: list[tuple[int, Example]] = []
    for item in sorted(examples, key=lambda item: -len(item[1].token_ids)):
        longest = len(batch[0][1].token_ids) if batch else 0
        if batch and (len(batch) + 1) * longest > max_tokens:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def loss_sums(model: Any, examples: Sequence[Example]) -> list[float]:
    """Return the weighted sum of token losses of each example, in fp32, with padding on the right."""
    device = next(model.parameters()).device
    longest = max(len(example.token_ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    weights, mask = torch.zeros(len(examples), longest), torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.token_ids)
        ids[row, :length] = torch.from_numpy(np.array(example.token_ids, dtype=np.int64))
        weights[row, :length] = torch.from_numpy(np.array(example.weights, dtype=np.float32))
        mask[row, :length] = 1
    ids, weights, mask = ids.to(device), weights.to(device), mask.to(device)
    with torch.no_grad(), answering(model):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        losses = _token_losses(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).view(len(examples), longest - 1)
        sums: list[float] = (losses * weights[:, 1:]).double().sum(-1).tolist()
    return sums


def _token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the fp32 loss of each target; the softmax exists for a block of rows at a time."""
    rows = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    blocks = zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)
    cross_entropy = torch.nn.functional.cross_entropy
    return torch.cat([cross_entropy(some.float(), ids, reduction="none") for some, ids in blocks])
