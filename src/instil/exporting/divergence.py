"""How far a GGUF file is from the model that it was made from, computed by llama.cpp at every token of some rows.

The model's own logits come from transformers. So the figure also holds what llama.cpp computes otherwise, not only
what quantising lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from instil.conversation import Conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError, InstilError
from instil.exporting.gguf_types import QUANTISED_TYPES
from instil.exporting.llama_library import LlamaFile
from instil.exporting.parity import logits_on
from instil.screen import work

PLAIN_BOUND = {"fp32": 1e-3, "fp16": 5e-3, "bf16": 5e-3}
"""Largest mean KL divergence of a file that is not quantised, in nats a token."""
_LONGEST, _MOST_TOKENS = 512, 8192
"""Tokens of a row that are compared, and of all rows together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """How a file's predictions differ from the model's, over the tokens of some rows.

    Attributes:
        mean: Mean KL divergence of the next token's distribution, in nats.
        worst: Largest one.
        same_choice: Share of tokens at which both find the same next token most probable.
        perplexity_ratio: Perplexity of the rows under the file, divided by that under the model.
        num_tokens: Tokens compared.
        bound: Largest mean that is allowed.
    """

    mean: float
    worst: float
    same_choice: float
    perplexity_ratio: float
    num_tokens: int
    bound: float

    def line(self, dtype: str) -> str:
        """Return the comparison for people."""
        return (
            f"{dtype} by llama.cpp on {self.num_tokens:,} tokens: mean KL divergence {self.mean:.2g} "
            f"(bound {self.bound:g}), largest {self.worst:.2g}; same first choice at {self.same_choice:.1%}; "
            f"perplexity times {self.perplexity_ratio:.3f}"
        )


def compare_by_llama_cpp(
    model: torch.nn.Module, chat: ChatTokenizer, path: Path, rows: Iterable[Conversation], *, dtype: str
) -> Divergence:
    """Compare a file with its model on some rows.

    Args:
        model: The unquantised model.
        chat: Tokenizer and template, which make the rows' ids.
        path: The GGUF file.
        rows: Conversations; those that the template refuses are left out.
        dtype: Type of the file's weights, which decides the bound.

    Raises:
        ExportError: If the mean divergence is above the bound.
    """
    sequences = ids_of(chat, rows)
    bound = PLAIN_BOUND[dtype] if dtype in PLAIN_BOUND else QUANTISED_TYPES[dtype].bound
    with work("comparing with llama.cpp", total=len(sequences), unit="rows") as bar, LlamaFile(path) as file:
        divergences: list[torch.Tensor] = []
        agreements: list[torch.Tensor] = []
        losses: list[torch.Tensor] = []
        for ids, logits in zip(sequences, file.logits(sequences), strict=True):
            own = logits_on(model, [ids], num_tokens=len(chat.tokenizer))[0].log_softmax(-1)
            other = logits[:, : own.shape[1]].log_softmax(-1)
            divergences.append((own.exp() * (own - other)).sum(-1))
            agreements.append(own.argmax(-1) == other.argmax(-1))
            losses.append((own - other)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0])
            bar.advance()
    divergence = torch.cat(divergences)
    measured = Divergence(
        mean=divergence.mean().item(),
        worst=divergence.max().item(),
        same_choice=torch.cat(agreements).float().mean().item(),
        perplexity_ratio=torch.cat(losses).mean().exp().item(),
        num_tokens=len(divergence),
        bound=bound,
    )
    if not measured.mean <= bound:
        raise ExportError(
            f"gguf: {measured.line(dtype)}. Expected a mean of at most {bound:g}. The export is refused. "
            f"{_remedy(dtype)}"
        )
    return measured


def ids_of(chat: ChatTokenizer, rows: Iterable[Conversation]) -> list[list[int]]:
    """Return the ids of rows as training makes them, prompts and answers, as far as the comparison goes.

    Raises:
        ExportError: If the template accepts none of the rows.
    """
    sequences: list[list[int]] = []
    num_tokens = 0
    for row in rows:
        if row.plain:
            continue
        try:
            examples = chat.encode(row)
        except InstilError:
            continue
        for example in islice(examples, 4):
            ids = list(example.token_ids)[:_LONGEST]
            if len(ids) > 1 and num_tokens + len(ids) <= _MOST_TOKENS:
                sequences.append(ids)
                num_tokens += len(ids)
    if not sequences:
        raise ExportError(
            "gguf: no row could be compared by llama.cpp. Expected rows that the template accepts. "
            "Name some with --data."
        )
    return sequences


def _remedy(dtype: str) -> str:
    if dtype in PLAIN_BOUND:
        return "Export as merged, and convert the folder with llama.cpp's own script."
    larger = [name for name, kind in QUANTISED_TYPES.items() if kind.bits > QUANTISED_TYPES[dtype].bits]
    return f"Choose {larger[-1]}, which has more bits, or fp16." if larger else "Choose fp16."


def type_counts(path: Path, type_name: str) -> Sequence[str]:
    """Return lines about the types that llama.cpp chose for a file's matrices, where some do not fit the blocks.

    Example of a line: ``12 of 36 matrices have rows that are no multiple of 256: written as q5_0 (10), q8_0 (2)``.
    """
    import gguf

    block = QUANTISED_TYPES[type_name].block
    matrices = [tensor for tensor in gguf.GGUFReader(str(path)).tensors if len(tensor.shape) > 1]
    others: dict[str, int] = {}
    for tensor in matrices:
        if tensor.shape[0] % block:
            kind = tensor.tensor_type.name.lower()
            others[kind] = others.get(kind, 0) + 1
    if not others:
        return ()
    written = ", ".join(f"{kind} ({count})" for kind, count in sorted(others.items(), key=lambda item: -item[1]))
    return (
        f"{sum(others.values())} of {len(matrices)} matrices have rows that are no multiple of {block}: "
        f"llama.cpp wrote them as {written}",
    )
