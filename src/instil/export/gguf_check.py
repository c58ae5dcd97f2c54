"""Compares a GGUF file with the model that it was made from: ids as llama.cpp makes them, and logits.

llama.cpp's Python package is asked where it is installed; without it, the ids of a SentencePiece tokenizer come from a model of its
way of cutting, and those of a byte-level one rest on the name of its pre-tokenization and on the text's needing no normalizer. Logits are read back by transformers.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError
from instil.export.gguf_tokenizer import backend_of, is_sentencepiece
from instil.export.parity import first_difference, logit_change, logits_on
from instil.export.sentencepiece_merges import cut_with_control_tokens, piece_scores, refuse_other_rules
from instil.generation.prompts import Prompt
from instil.model.library_noise import quiet_transformers

LOGIT_BOUND = 1e-3
"""Largest change of a logit by writing and reading, as a share of the largest."""


def check_target_ids(chat: ChatTokenizer, path: Path, prompts: Sequence[Prompt]) -> list[str]:
    """Compare the prompts' ids with those that llama.cpp makes of their text; says with what they were compared.

    Args:
        chat: What the model was trained with.
        path: The GGUF file.
        prompts: Without typed control tokens, which llama.cpp takes for real ones.

    Raises:
        ExportError: At the first difference.
    """
    said = []
    for what, ids_of in _ways(chat, path):
        for prompt in prompts:
            text = chat.render(prompt.conversation, add_generation_prompt=True).text
            first_difference(what, ids_of(text), chat.prompt(prompt.conversation), chat, prompt)
        said.append(f"{len(prompts)} prompts: ids equal in {what}")
    return said


def _ways(chat: ChatTokenizer, path: Path) -> list[tuple[str, Callable[[str], Sequence[int]]]]:
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
    try:
        import llama_cpp
    except ImportError:
        return ways
    return [*ways, ("llama.cpp", _tokenizer_of(llama_cpp, path))]


def _tokenizer_of(llama_cpp: Any, path: Path) -> Callable[[str], Sequence[int]]:
    """Open the file's vocabulary alone, through the C interface: the package's class would make a context for answers too."""
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    log = logging.getLogger("llama-cpp-python")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it tells of every key that it reads
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    log.setLevel(level)
    if not model:
        raise ExportError(f"{path.name}: llama.cpp cannot read it; the export is refused; export as merged")
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def ids_of(text: str) -> Sequence[int]:
        raw = text.encode()
        ids = (
            llama_cpp.llama_token * (2 * len(raw) + 8)
        )()  # more than there can be: a byte each, and spaces put before
        count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), ids, len(ids), False, True)
        return list(ids[: max(0, count)])

    return ids_of


def read_back(model: Any, path: Path, prompts: Sequence[Sequence[int]]) -> str:
    """Load the file with transformers and compare logits; says by how much they differ.

    Raises:
        ExportError: If by more than `LOGIT_BOUND`.
    """
    from transformers import AutoModelForCausalLM

    # transformers' reader takes the published width of Qwen3's heads for every Qwen3, and passes over Llama 3.1's rotary factors.
    stretched = model.config.rope_parameters.get("rope_type") == "llama3"
    given = {"config": model.config} if model.config.model_type == "qwen3" or stretched else {}
    # its progress bar asks no setting
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        again = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, **given
        ).eval()
    change = logit_change(logits_on(model, prompts), logits_on(again.to(next(model.parameters()).device), prompts))
    if not change <= LOGIT_BOUND:
        raise ExportError(
            f"gguf: read back, its logits differ by {change:.2g} of the largest; at most {LOGIT_BOUND} are allowed; "
            "the export is refused; convert the merged folder with llama.cpp's own script"
        )
    return f"GGUF read back by transformers: logits differ by at most {change:.2g} of the largest"
