"""A GGUF file from a merged model: written, quantised if its type asks for that, and compared with the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from instil.conversation import Conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.exporting.divergence import compare_by_llama_cpp, type_counts
from instil.exporting.gguf_check import check_target_ids, read_back
from instil.exporting.gguf_file import write_gguf
from instil.exporting.gguf_types import QUANTISED_TYPES
from instil.exporting.llama_library import has_llama_cpp, quantise
from instil.generation.prompts import Prompt
from instil.screen import work

_PLAIN = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def write_checked_gguf(
    model: Any,
    chat: ChatTokenizer,
    folder: Path,
    rows: Sequence[Conversation],
    *,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    dtype: str,
    name: str,
) -> tuple[str, ...]:
    """Write ``model.gguf`` into a folder, and compare it with the model.

    Args:
        model: The merged model, in fp32.
        chat: Its tokenizer and template.
        folder: A folder that exists.
        rows: Conversations on which llama.cpp's predictions are compared.
        prompts: Prompts whose ids are compared.
        prompt_ids: Ids of some prompts, to compare the file that transformers reads back.
        dtype: Type of the weights.
        name: For the file's metadata.

    Returns:
        Lines for the user: what was compared, and how far it differs.

    Raises:
        ExportError: If ids differ, or the file's predictions differ by more than the bound of its type.
    """
    file = folder / "model.gguf"
    is_quantised = dtype in QUANTISED_TYPES
    written = folder / "whole.gguf" if is_quantised else file
    with work("writing the GGUF file"):
        write_gguf(model, chat, written, dtype=_PLAIN.get(dtype, torch.float32), name=name)
    notes = [read_back(model, written, prompt_ids)]
    if is_quantised:
        notes[0] = f"not yet quantised, {notes[0]}"
        with work(f"quantising to {dtype}"):
            quantise(written, file, dtype)
        written.unlink()
        notes += type_counts(file, dtype)
    # With the file that is delivered, even if the unquantised one has the same vocabulary.
    notes = [*check_target_ids(chat, file, prompts), *notes]
    if has_llama_cpp():
        notes.append(compare_by_llama_cpp(model, chat, file, rows, dtype=dtype).line(dtype))
    return tuple(notes)
