"""Writes a tokenizer into a GGUF file: byte-level BPE (llama.cpp's ``gpt2``) and SentencePiece BPE (its ``llama``).

llama.cpp identifies byte-level tokenizers by the name of their pre-tokenization, which is recognised here by its
rules. A wrong name would give other ids without an error, so an unknown one is refused. A SentencePiece tokenizer is
written if piece scores can reproduce its merges (`sentencepiece_merges`); otherwise it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import ExportError
from instil.exporting.sentencepiece_merges import MARK, UNREACHED, byte_piece, piece_scores, refuse_other_rules

NO_MERGE = "[PAD] [PAD]"
"""Stands for an empty list, which llama.cpp refuses. Pieces begin as single characters, so this pair never comes up."""
_LLAMA3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
_QWEN2 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"


def add_tokenizer(writer: Any, gguf: Any, chat: ChatTokenizer, *, vocabulary: int) -> None:
    """Add vocabulary, merges or scores, special tokens and the template to a GGUF writer.

    Args:
        writer: gguf's writer.
        gguf: The library.
        chat: Tokenizer and template.
        vocabulary: Rows of the model's embedding; those beyond the tokenizer are padding.

    Raises:
        ExportError: If llama.cpp would cut a text otherwise.
    """
    tokenizer = chat.tokenizer
    backend = backend_of(tokenizer)
    known = {number: text for text, number in tokenizer.get_vocab().items()}
    texts = [known.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    if is_sentencepiece(backend):
        prefixed = refuse_other_rules(backend)
        scores = piece_scores(backend)
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([scores.get(text, UNREACHED) for text in texts])
        writer.add_add_space_prefix(prefixed)
        if tokenizer.unk_token_id is not None:
            writer.add_unk_token_id(tokenizer.unk_token_id)
        of_bytes = {known_number for known_number, text in known.items() if text in _BYTES}
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre_tokenizer_name(backend))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]]
        writer.add_token_merges(merges or [NO_MERGE])
        of_bytes = set()
    writer.add_token_list(texts)
    writer.add_token_types(list(_types(gguf.TokenType, chat, known, of_bytes, vocabulary)))
    writer.add_eos_token_id(chat.stop_ids[0])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    # If a prompt needs BOS, the template prints it.
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.template.source)


def _types(kind: Any, chat: ChatTokenizer, known: dict[int, str], of_bytes: set[int], vocabulary: int) -> Iterator[Any]:
    added = chat.tokenizer.added_tokens_decoder
    for number in range(vocabulary):
        if number == chat.tokenizer.unk_token_id and of_bytes:
            yield kind.UNKNOWN
        elif number in added:
            special = added[number].special or number in chat.stop_ids
            yield kind.CONTROL if special else kind.USER_DEFINED
        elif number in of_bytes:
            yield kind.BYTE
        else:
            yield kind.NORMAL if number in known else kind.UNUSED


_BYTES = frozenset(byte_piece(value) for value in range(256))


def backend_of(tokenizer: Any) -> dict[str, Any]:
    """Return the content of a fast tokenizer's tokenizer.json."""
    backend: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return backend


def is_sentencepiece(backend: dict[str, Any]) -> bool:
    """Return whether this is a SentencePiece BPE, which writes spaces as ``▁`` and unknown characters as bytes."""
    return backend["model"]["type"] == "BPE" and bool(backend["model"].get("byte_fallback")) and MARK in str(backend)


def pre_tokenizer_name(backend: dict[str, Any]) -> str:
    """Return llama.cpp's name of a byte-level tokenizer's pre-tokenization.

    Raises:
        ExportError: If the name is not known here.

    Example:
        >>> pre_tokenizer_name({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "use_regex": True}})
        'gpt-2'
    """
    steps = backend.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    last: dict[str, Any] = steps[-1]
    if backend["model"]["type"] == "BPE" and last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        name = _name_of(steps[:-1], by_itself=last.get("use_regex", True))
        if name is not None:
            return name
    raise ExportError(
        "gguf: llama.cpp's name of this tokenizer's pre-tokenization is not known here. Expected that of GPT-2, "
        "SmolLM, Llama 3 or Qwen, or SentencePiece BPE. Convert the merged folder with llama.cpp's own script."
    )


def _name_of(before: Sequence[dict[str, Any]], *, by_itself: bool) -> str | None:
    """Name the rules that stand before the byte-level step, which splits by itself as GPT-2 does, or not at all."""
    if not before and by_itself:
        return "gpt-2"
    if len(before) != 1:
        return None
    if before[0].get("type") == "Digits" and before[0].get("individual_digits") and by_itself:
        return "smollm"
    if before[0].get("type") == "Split" and not by_itself:
        pattern = before[0]["pattern"].get("Regex", "")
        if _LLAMA3 in pattern:
            return "llama-bpe"
        if _QWEN2 in pattern:
            return "qwen2"
    return None
