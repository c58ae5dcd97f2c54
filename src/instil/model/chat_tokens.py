"""Adds the chat tokens that a template prints to a base model's tokenizer.

`new_tokens` then makes the model's rows fit. The two are apart, because the tokenizer is needed before the weights, and
without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PAD_CANDIDATES = ("<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<|end_of_text|>", "<unk>")
NEW_PAD = "<|pad|>"


@dataclass(frozen=True)
class TokenChange:
    """What `add_chat_tokens` changed in a tokenizer.

    Attributes:
        added: Tokens that were added, in the order of their ids.
        control_ids: Ids of all control tokens of the template, new or not; their rows must be trained.
        stop_token: The token that ends an assistant turn.
        pad_token: The padding token; never the stop token.
    """

    added: tuple[str, ...]
    control_ids: tuple[int, ...]
    stop_token: str
    pad_token: str


def add_chat_tokens(
    tokenizer: Any, control_tokens: Sequence[str], *, stop_token: str, set_eos: bool = True
) -> TokenChange:
    """Add a template's control tokens, its stop token and a padding token to a tokenizer, as far as it lacks them.

    Args:
        tokenizer: transformers' tokenizer; changed in place.
        control_tokens: What the template prints as single tokens; missing ones are added as special tokens.
        stop_token: The token that ends an assistant turn; added like the others if it is missing.
        set_eos: Make the stop token the tokenizer's eos. Servers expect that of a model whose template the recipe sets.
            With the model's own template the eos stays, because the stop token may be another.

    Returns:
        What changed.

    Example:
        >>> from transformers import PreTrainedTokenizerFast
        >>> from tokenizers import Tokenizer, models
        >>> words = Tokenizer(models.WordLevel({"a": 0, "<eos>": 1}, unk_token="a"))
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
        >>> add_chat_tokens(tokenizer, ["<|im_start|>"], stop_token="<|im_end|>").added
        ('<|im_start|>', '<|im_end|>')
    """
    control_tokens = list(dict.fromkeys([*control_tokens, stop_token]))
    vocabulary = tokenizer.get_vocab()
    added = [token for token in control_tokens if token not in vocabulary]
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": _keep_special(tokenizer, added)})
    old_eos = tokenizer.eos_token
    if set_eos:
        tokenizer.eos_token = stop_token
    pad = _choose_pad(tokenizer, forbidden={stop_token, tokenizer.eos_token}, old_eos=old_eos)
    if pad is None:
        pad = NEW_PAD
        added.append(pad)
    tokenizer.add_special_tokens({"pad_token": pad})  # setting the attribute alone would not add it to the vocabulary
    ids = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in control_tokens)
    return TokenChange(tuple(added), ids, stop_token, pad)


def _keep_special(tokenizer: Any, added: Sequence[str]) -> list[str]:
    """Return the existing extra special tokens and the new ones, because transformers replaces the list."""
    attribute = "extra_special_tokens" if hasattr(tokenizer, "extra_special_tokens") else "additional_special_tokens"
    before = getattr(tokenizer, attribute, None) or []
    names = before.values() if isinstance(before, dict) else before
    return [*(str(token) for token in names), *added]


def _choose_pad(tokenizer: Any, *, forbidden: set[str | None], old_eos: str | None) -> str | None:
    """Return a padding token that ends nothing: the tokenizer's own, a usual one or the former eos; None if none is."""
    vocabulary = tokenizer.get_vocab()
    candidates = (tokenizer.pad_token, *PAD_CANDIDATES, tokenizer.unk_token, old_eos)
    for token in candidates:
        if token is not None and token not in forbidden and token in vocabulary:
            return str(token)
    return None
