"""Random models over real and small tokenizers: under a form, even they have to write it."""

from __future__ import annotations

from functools import cache

import torch
from tests.tiny_chat import folders
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.generation.engine import Engine

HERMES = """{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>{"name": "{{ call.function.name }}", "arguments": \
{{ call.function.arguments | tojson }}}</tool_call>{% endfor %}{% else %}{{ message.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if thinking %}<think>
{% endif %}{% endif %}"""


def engine_of(folder, template=None):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if template is not None:
        tokenizer.chat_template = template
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer) + 3, num_key_value_heads=2, max_position_embeddings=4096, **shape)
    chat = ChatTokenizer.from_tokenizer(tokenizer) if tokenizer.chat_template else None
    return Engine(LlamaForCausalLM(config).eval(), tokenizer, chat=chat)


@cache
def small_engine():
    """Return a random model with the calls of Hermes, and with reasoning that the prompt opens on request."""
    return engine_of(folders()["tuned"], HERMES)
