"""Pre-train the demo's base model from random weights: text, tokenizer, training, model folder.

    python -m tools.demo_base.pretrain OUT

The model is a plain language model of the text that `text.documents` writes. Rows are cut from one long stream of
documents, so nothing is padded. Weights are fp32 during training, matrix products bf16; the folder holds bf16 weights.

Why: attention sees the document before, as usual in pre-training. This teaches the model what `<|endoftext|>` means.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tools.demo_base.text import documents
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
VOCABULARY = 4096
CONTEXT = 1024
STEP_TOKENS = 6144
ROW = 256
WARM_UP = 60


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of pre-training.

    Attributes:
        steps: Number of steps of `STEP_TOKENS` tokens.
        peak_lr: Learning rate after the warm-up; it falls to 2% of that along a cosine.
        notes: Share of notes in the text about entities.
        long_every: Interval of the steps whose rows have the full context instead of `ROW` tokens; 0: the last 15% of
            steps.
        entries: Whether half of the notes have headings and the text includes practice in copying (see `notes`).
    """

    steps: int
    peak_lr: float
    notes: float
    long_every: int
    entries: bool = False

    def long_rows(self, step: int) -> bool:
        """Return whether the rows of a step, counted from 0, have the full context."""
        if self.long_every:
            return step % self.long_every == self.long_every - 1
        return step >= 0.85 * self.steps


STAGES = (
    Stage(steps=2000, peak_lr=2e-3, notes=0.0, long_every=0),
    Stage(steps=400, peak_lr=1e-3, notes=0.5, long_every=8),
    Stage(steps=800, peak_lr=1.2e-3, notes=0.6, long_every=8, entries=True),
)
"""First sentences that state the facts, then half notes (see `notes`), then notes of more shapes and copying."""


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer on a sample of the text; each digit is a token of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(islice(documents(seed), 60_000), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, model_max_length=CONTEXT, clean_up_tokenization_spaces=False
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the model with random weights: 5 layers of width 192, tied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=5,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def token_rows(tokenizer: PreTrainedTokenizerFast, stage: Stage, *, seed: int) -> Iterator[Tensor]:
    """Yield the tokens of each step, [rows, length], cut from the endless stream of documents."""
    stream = documents(seed, notes=stage.notes, entries=stage.entries)
    pending: list[int] = []
    end = tokenizer.eos_token_id
    for step in range(stage.steps):
        length = CONTEXT if stage.long_rows(step) else ROW
        while len(pending) < STEP_TOKENS:
            for ids in tokenizer(list(islice(stream, 2000)), add_special_tokens=False)["input_ids"]:
                pending += [*ids, end]
        yield torch.tensor(pending[:STEP_TOKENS]).view(-1, length)
        del pending[:STEP_TOKENS]


def train(model: LlamaForCausalLM, rows: Iterator[Tensor], stage: Stage, *, steps: int) -> list[tuple[int, float]]:
    """Train for the given number of steps of a stage and return (step, mean loss of the last 50) pairs."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.peak_lr, betas=(0.9, 0.95), weight_decay=0.01)
    log, recent, started = [], [], time.monotonic()
    model.train()
    for step, ids in enumerate(islice(rows, steps), start=1):
        for group in optimizer.param_groups:
            cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
            group["lr"] = stage.peak_lr * min(step / WARM_UP, cosine)
        recent.append(_accumulate_gradients(model, ids))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps:
            log.append((step, sum(recent) / len(recent)))
            print(f"step {step:5d}  loss {log[-1][1]:.4f}  {time.monotonic() - started:6.0f} s", flush=True)
            recent.clear()
    return log


def _accumulate_gradients(model: LlamaForCausalLM, ids: Tensor) -> float:
    # In parts of 1,536 tokens: page faults on 100 MB of logits cost more time than larger products save.
    parts = torch.split(ids, max(1, 1536 // ids.shape[1]))
    total = 0.0
    for part in parts:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=part, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1]).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits.float(), part[:, 1:].flatten()) / len(parts)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the Hugging Face folder, weights in bf16."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, max_new_tokens=64, do_sample=False
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Pre-train the model and write it into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Pre-train the demo's base model.")
    parser.add_argument("out", type=Path, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0, help="seed of text and weights")
    parser.add_argument("--steps", type=int, help="stop each stage after this many steps (for a trial)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    tokenizer = train_tokenizer(arguments.seed)
    model = build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    for number, stage in enumerate(STAGES, start=1):
        print(f"stage {number}: {stage}", flush=True)
        rows = token_rows(tokenizer, stage, seed=arguments.seed + number)
        train(model, rows, stage, steps=min(stage.steps, arguments.steps or stage.steps))
    save(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
