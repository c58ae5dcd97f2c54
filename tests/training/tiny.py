"""A tiny model and invented examples for the tests of training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from instil.conversation import Example, Place
from instil.model.attention.flat import register_attention
from instil.training.step.learner import Learner

LearnerMaker = Callable[..., Learner]
CPU = torch.device("cpu")
VOCABULARY = 64


def tiny_llama(*, dropout: float = 0.0, vocabulary: int = VOCABULARY) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        attn_implementation=register_attention(),
    )
    return LlamaForCausalLM(config)


def invented_examples(count: int, *, seed: int = 0, weight: float = 1.0) -> list[Example]:
    """Examples of 4 to 20 tokens; the second half of each is trained, with weights from a half to one."""
    random = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        length = int(random.integers(4, 21))
        weights = np.where(np.arange(length) >= length // 2, random.choice([0.5, 1.0], length), 0.0) * weight
        ids = random.integers(0, VOCABULARY, length)
        examples.append(Example(ids.tolist(), weights.tolist(), place=Place("rows.jsonl", number + 1)))
    return examples
