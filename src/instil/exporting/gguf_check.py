"""Compares a GGUF file with the model that it was made from: ids as llama.cpp makes them, and logits.

If llama.cpp's Python package is installed, it makes the ids. Without it, SentencePiece ids come from our model of its
algorithm (`sentencepiece_merges`). Byte-level ids are trusted if the name of the pre-tokenization is known and the
text needs no normalizer. transformers reads the file back for the logits.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError
from instil.exporting.gguf_tokenizer import backend_of, is_sentencepiece
from instil.exporting.llama_library import LlamaFile, has_llama_cpp
from instil.exporting.parity import first_difference, logit_change, logits_on
from instil.exporting.sentencepiece_merges import cut_with_control_tokens, piece_scores, refuse_other_rules
from instil.generation.prompts import Prompt
from instil.model.library_noise import quiet_transformers
from instil.units import counted

LOGIT_BOUND = 1e-3
"""Largest change of a logit by writing and reading, as a share of the largest logit."""


def check_target_ids(chat: ChatTokenizer, path: Path, prompts: Sequence[Prompt]) -> list[str]:
    """Compare the prompts' ids with those that llama.cpp makes of their text.

    Args:
        chat: Tokenizer and template of the training.
        path: The GGUF file.
        prompts: Prompts without typed control tokens, which llama.cpp would treat as real ones.

    Returns:
        Lines that name what the ids were compared with.

    Raises:
        ExportError: At the first difference.
    """
    lines = []
    with contextlib.ExitStack() as stack:
        ways = _modelled(chat)
        if has_llama_cpp():
            file = stack.enter_context(LlamaFile(path, vocabulary_only=True))
            ways.append(("llama.cpp", file.ids))
        for what, ids_of in ways:
            for prompt in prompts:
                text = chat.render(prompt.conversation, add_generation_prompt=True).text
                first_difference(what, ids_of(text), chat.prompt(prompt.conversation), chat, prompt)
            lines.append(f"{counted(len(prompts), 'prompt')}: ids equal in {what}")
    return lines


def _modelled(chat: ChatTokenizer) -> list[tuple[str, Callable[[str], Sequence[int]]]]:
    """Return what is known here of llama.cpp's rules for this tokenizer: a name, and the ids of a text."""
    backend = backend_of(chat.tokenizer)
    ways: list[tuple[str, Callable[[str], Sequence[int]]]] = []
    if is_sentencepiece(backend):
        scores, prefixed = piece_scores(backend), refuse_other_rules(backend)
        ways.append(
            (
                "llama.cpp's rules",
                lambda text: cut_with_control_tokens(text, backend=backend, scores=scores, prefixed=prefixed),
            )
        )
    elif backend.get("normalizer") is not None:  # Qwen's composes accents; llama.cpp does not
        bare = Tokenizer.from_str(json.dumps({**backend, "normalizer": None}))
        ways.append(("llama.cpp's rules", lambda text: bare.encode(text, add_special_tokens=False).ids))
    return ways


def read_back(model: Any, path: Path, prompts: Sequence[Sequence[int]]) -> str:
    """Load the file with transformers, compare logits, and return a line with the difference.

    Raises:
        ExportError: If they differ by more than `LOGIT_BOUND`.
    """
    from transformers import AutoModelForCausalLM

    # transformers' reader assumes the published head width for every Qwen3, and ignores Llama 3.1's rotary factors.
    stretched = model.config.rope_parameters.get("rope_type") == "llama3"
    config = {"config": model.config} if model.config.model_type == "qwen3" or stretched else {}
    # No setting turns its progress bar off.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        again = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, **config
        ).eval()
    change = logit_change(logits_on(model, prompts), logits_on(again.to(next(model.parameters()).device), prompts))
    if not change <= LOGIT_BOUND:
        raise ExportError(
            f"gguf: read back, its logits differ by {change:.2g} of the largest; at most {LOGIT_BOUND} are allowed. "
            "The export is refused. Convert the merged folder with llama.cpp's own script."
        )
    return f"GGUF read back by transformers: logits differ by at most {change:.2g} of the largest"
