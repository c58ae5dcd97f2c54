"""Tiny models with adapters and new chat tokens."""

from __future__ import annotations

from typing import Any

import torch
from tests.model.chat_tokens import base_tokenizer, give_chat_tokens
from tests.model.flat_batches import loss_of
from tests.model.tiny import VOCABULARY, random_examples, tiny_model

from instil.model.adapters.lora import prepare_adapters
from instil.model.attention.switch import set_attention
from instil.model.loss.token_loss import TokenLoss
from instil.recipe import AdapterSettings

LORA = AdapterSettings(kind="lora", rank=4, alpha=8)


def examples_with_new_tokens() -> list[tuple[torch.Tensor, torch.Tensor]]:
    examples = random_examples([9, 6])
    for ids, weights in examples:
        ids[1], ids[3], ids[-1] = VOCABULARY + 1, VOCABULARY, VOCABULARY + 1
        weights[-1] = 1.0
    return examples


def adapted(
    name: str = "llama", *, tied: bool = False, settings: AdapterSettings = LORA
) -> tuple[Any, tuple[int, ...]]:
    model = tiny_model(name, tie_word_embeddings=tied)
    rows = give_chat_tokens(model, base_tokenizer())
    return prepare_adapters(model, settings, trained_ids=rows.trained_ids), rows.trained_ids


def train(model: Any, *, steps: int = 3, lr: float = 0.02) -> None:
    module = TokenLoss(model)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        loss_of(module, examples_with_new_tokens()).backward()
        optimizer.step()
        optimizer.zero_grad()


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    set_attention(model, "generation")
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0]
