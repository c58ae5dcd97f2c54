"""A word tokenizer as large as the tiny models, and chat tokens for both."""

from __future__ import annotations

from typing import Any

from tests.model.tiny import VOCABULARY
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instil.model.chat_tokens import add_chat_tokens
from instil.model.new_tokens import RowChange, fit_embeddings


def base_tokenizer(num_tokens: int = VOCABULARY, *extra: str) -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(num_tokens - 1)} | {"<eos>": num_tokens - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    if extra:
        fast.add_special_tokens({"additional_special_tokens": list(extra)})
    return fast


def give_chat_tokens(model: Any, tokenizer: Any, *, seed: int = 0) -> RowChange:
    change = add_chat_tokens(tokenizer, ["<|im_start|>", "<|im_end|>"], stop_token="<|im_end|>")
    return fit_embeddings(model, tokenizer, change, stop_ids=(tokenizer.eos_token_id, VOCABULARY - 1), seed=seed)
