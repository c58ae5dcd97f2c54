"""Log-probabilities of generated tokens, and the bytes of a token.

They are those of the model itself: before temperature, penalties and the mask of a form.

Source: vLLM's default, ``logprobs_mode="raw_logprobs"``. OpenAI's reference says "log probabilities of the output
tokens" and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

MAX_TOP = 20
"""Most alternatives for each token, as in OpenAI's API."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its log-probability.

    Attributes:
        token_id: The token.
        logprob: Its natural log-probability.
        top: The most probable tokens at its place, each with its log-probability; the most probable first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def logprobs_of(logits: Tensor, tokens: Tensor, *, num_top: int) -> list[TokenLogprob]:
    """Return the log-probability of one chosen token per row.

    Args:
        logits: [B, V], as the model gives them.
        tokens: [B] chosen ids.
        num_top: How many alternatives to list.
    """
    values = logits.double().log_softmax(dim=-1)
    top_values, top_ids = values.topk(min(num_top, values.shape[-1]), dim=-1)
    chosen = values.gather(-1, tokens[:, None])
    # Read at once: each read waits for the device. Ids are exact in fp64.
    rows = torch.cat([tokens[:, None].double(), chosen, top_ids.double(), top_values], dim=-1).tolist()
    num_top = top_ids.shape[-1]
    return [
        TokenLogprob(int(token), logprob, tuple(zip(map(int, rest[:num_top]), rest[num_top:], strict=True)))
        for token, logprob, *rest in rows
    ]


def token_bytes(tokenizer: Any, token_id: int) -> bytes:
    """Return the UTF-8 bytes that a token stands for; half a character is possible."""
    return _bytes_reader(tokenizer)(token_id)


def _bytes_reader(tokenizer: Any) -> Callable[[int], bytes]:
    """Return `token_bytes` of a tokenizer. Its added tokens and its decoder are looked up once: both are slow."""
    added_tokens = tokenizer.added_tokens_decoder
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    table = _byte_of_character() if decoder is not None and b"ByteLevel" in decoder.__getstate__() else None

    def read(token_id: int) -> bytes:
        added = added_tokens.get(token_id)
        if added is not None:
            return str(added.content).encode()
        text = tokenizer.convert_ids_to_tokens(token_id) or ""
        if table is not None:
            return b"".join(bytes([table[sign]]) if sign in table else sign.encode() for sign in text)
        match = _BYTE_TOKEN.fullmatch(text)
        return bytes([int(match[1], 16)]) if match else text.replace("▁", " ").encode()

    return read


@cache
def _byte_of_character() -> Mapping[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def logprob_entries(tokenizer: Any, logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Return the entries of OpenAI's ``logprobs.content``."""
    bytes_of = _bytes_reader(tokenizer)

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        raw = bytes_of(token_id)
        return {"token": token_text(raw), "logprob": logprob, "bytes": list(raw)}

    return [
        entry(item.token_id, item.logprob) | {"top_logprobs": [entry(*pair) for pair in item.top]} for item in logprobs
    ]


def token_text(raw: bytes) -> str:
    r"""Return the text of a token; half a character is written as OpenAI does.

    Example:
        >>> token_text("ä".encode()), token_text("ä".encode()[:1])
        ('ä', 'bytes:\\xc3')
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
