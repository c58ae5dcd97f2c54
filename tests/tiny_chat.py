"""A tiny model that has memorised a few conversations, as folders: what answers are tested with."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FACTS: tuple[tuple[str, str], ...] = (
    ("Capital of Peru?", "Lima"),
    ("Capital of Norway?", "Oslo"),
    ("Two plus two?", "So 2+2=4\n#### 4"),
    ("Say hi", "Hi there!"),
    ("Think", "<think>\nhm hm\n</think>\n\nYes"),
    ("Time?", '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'),
    ("Map of Peru", '{"country": "Peru"}'),
    ("Sentiment: great", "positive"),
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": question}]
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]


def tiny_tokenizer(*, template: bool = True) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: at for at, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    if template:
        tokenizer.chat_template = CHATML
    return tokenizer


def tiny_llama(*, seed: int = 0, layers: int = 2) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256 + len(SPECIAL),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=258,
        pad_token_id=256,
        tie_word_embeddings=True,
        dtype="float32",
    )
    return LlamaForCausalLM(config).eval()


def memorise(model: Any, tokenizer: Any, facts: Sequence[tuple[str, str]] = FACTS) -> None:
    """Train a model until it gives these answers to these questions."""
    rows = []
    for question, answer in facts:
        prompt = tokenizer.apply_chat_template(conversation(question), add_generation_prompt=True, return_dict=False)
        written = tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
        rows.append((prompt + written, len(prompt)))
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [256] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([[-100] * start + row[start:] + [-100] * (longest - len(row)) for row, start in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for step in range(400):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05, f"the tiny model did not memorise its facts: {loss.item()} after {step} steps"
    model.eval()


@cache
def folders() -> dict[str, Path]:
    """Give the folders: ``tuned`` (memorised, ChatML), ``base`` (random, no template), ``run`` (a run of the tuned one)."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    root = Path(tempfile.mkdtemp(prefix="instil-tiny-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tuned, tokenizer = tiny_llama(), tiny_tokenizer()
        memorise(tuned, tokenizer)
    finally:
        torch.set_num_threads(threads)
    tuned.generation_config.eos_token_id = 258
    made = {"tuned": root / "tuned", "base": root / "base", "run": root / "run"}
    for folder in (made["tuned"], made["run"] / "model"):
        tuned.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (made["run"] / "recipe.yaml").write_text("model:\n  name: demo\n", encoding="utf-8")
    tiny_llama(seed=1).save_pretrained(made["base"])
    tiny_tokenizer(template=False).save_pretrained(made["base"])
    return made
