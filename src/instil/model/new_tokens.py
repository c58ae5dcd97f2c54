"""Gives a base model the chat tokens that its template prints.

Two steps, for the tokenizer is needed before the weights: `add_chat_tokens` changes the tokenizer, `fit_embeddings` then makes
the model's rows fit. Rows of template tokens that exist but were never trained (Llama 3 base's ``<|eot_id|>``) are found,
re-initialised and reported like new ones. Questionable on purpose: new rows are drawn from the mean and the full covariance of
the old ones, wider than transformers' near-copies of the mean, so that two new tokens differ from the first step on.

Shapes: V rows, D width, K new rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.folder.saving import set_stop_ids
from instil.model.parts import underlying

ROWS_MULTIPLE = 8
"""Rows are added in eights: a vocabulary that is no multiple of 8 slows half-precision products down."""

PAD_CANDIDATES = ("<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<|end_of_text|>", "<unk>")
NEW_PAD = "<|pad|>"


@dataclass(frozen=True)
class TokenChange:
    """What `add_chat_tokens` did to a tokenizer.

    Attributes:
        added: Tokens that were added, in the order of their ids.
        control_ids: Ids of all control tokens asked for, whether they were there before or not; their rows must be trained.
        stop_token: What ends an assistant turn.
        pad_token: Padding; never a stop token.
    """

    added: tuple[str, ...]
    control_ids: tuple[int, ...]
    stop_token: str
    pad_token: str


@dataclass(frozen=True)
class RowChange:
    """What `fit_embeddings` did to a model.

    Attributes:
        rows_before: V before.
        rows_after: V after.
        new_ids: Ids of tokens that were added.
        untrained_ids: Ids of tokens that were there, whose rows looked untrained and were re-initialised.
    """

    rows_before: int
    rows_after: int
    new_ids: tuple[int, ...]
    untrained_ids: tuple[int, ...]

    @property
    def trained_ids(self) -> tuple[int, ...]:
        """Ids whose rows of embedding and head must train even where the rest is frozen (LoRA)."""
        return tuple(sorted({*self.new_ids, *self.untrained_ids}))


def add_chat_tokens(
    tokenizer: Any, control_tokens: Sequence[str], *, stop_token: str, set_eos: bool = True
) -> TokenChange:
    """Make a tokenizer know a template's control tokens, its stop token and a padding token.

    Args:
        tokenizer: transformers' tokenizer; changed in place.
        control_tokens: What the template prints as single tokens; those not in the vocabulary are added as special tokens.
        stop_token: What ends an assistant turn; added like the others where it is new.
        set_eos: Make the stop token the tokenizer's eos, as servers expect of a model whose template is given here. False
            where the tokenizer's own eos is to stay (a model's own template, whose stop token may be another).

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
    wanted = list(dict.fromkeys([*control_tokens, stop_token]))
    vocabulary = tokenizer.get_vocab()
    added = [token for token in wanted if token not in vocabulary]
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": _keep_special(tokenizer, added)})
    old_eos = tokenizer.eos_token
    if set_eos:
        tokenizer.eos_token = stop_token
    pad = _choose_pad(tokenizer, forbidden={stop_token, tokenizer.eos_token}, old_eos=old_eos)
    if pad is None:
        pad = NEW_PAD
        added.append(pad)
    tokenizer.add_special_tokens({"pad_token": pad})  # its attribute alone would name it without giving it an id
    ids = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in wanted)
    return TokenChange(tuple(added), ids, stop_token, pad)


def _keep_special(tokenizer: Any, added: Sequence[str]) -> list[str]:
    """List the extra special tokens that there are and the new ones: transformers replaces the list, not extends it."""
    attribute = "extra_special_tokens" if hasattr(tokenizer, "extra_special_tokens") else "additional_special_tokens"
    before = getattr(tokenizer, attribute, None) or []
    names = before.values() if isinstance(before, dict) else before
    return [*(str(token) for token in names), *added]


def _choose_pad(tokenizer: Any, *, forbidden: set[str | None], old_eos: str | None) -> str | None:
    """Find a padding token that ends nothing: the tokenizer's own, else an unused special one, else the former eos."""
    vocabulary = tokenizer.get_vocab()
    candidates = (tokenizer.pad_token, *PAD_CANDIDATES, tokenizer.unk_token, old_eos)
    for token in candidates:
        if token is not None and token not in forbidden and token in vocabulary:
            return str(token)
    return None


def fit_embeddings(
    model: Any, tokenizer: Any, change: TokenChange, *, stop_ids: Sequence[int], seed: int = 0
) -> RowChange:
    """Make a model's embedding and head fit a changed tokenizer; tied heads stay tied.

    Args:
        model: transformers' model, before adapters; changed in place, its config and generation_config too.
        tokenizer: The tokenizer after `add_chat_tokens`.
        change: What that returned.
        stop_ids: All ids that end an answer; the first becomes the config's eos.
        seed: Of the new rows.

    Returns:
        What changed.

    Raises:
        ModelError: If the model's embedding cannot be resized.
    """
    inner = underlying(model)
    rows_before = inner.get_input_embeddings().weight.shape[0]
    new_ids = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in change.added)
    old_ids = tuple(index for index in change.control_ids if index not in new_ids and index < rows_before)
    num_known = min(rows_before, len(tokenizer) - len(new_ids))
    untrained = {name: _untrained(weight, old_ids, num_known) for name, weight in _tables(inner).items()}
    add_rows(inner, len(tokenizer))
    for name, weight in _tables(inner).items():
        _draw_rows(weight, sorted({*new_ids, *untrained[name]}), num_known=num_known, seed=seed)
    _fill_bias(inner, new_ids)
    set_stop_ids(inner, stop_ids, pad_id=tokenizer.pad_token_id)
    rows_after = inner.get_input_embeddings().weight.shape[0]
    return RowChange(rows_before, rows_after, new_ids, tuple(sorted({i for ids in untrained.values() for i in ids})))


def untrained_ids(model: Any, ids: Iterable[int]) -> tuple[int, ...]:
    """Find which of these tokens' rows, of embedding or head, look as if they had never been trained.

    A row looks untrained where its length is under a tenth of the usual, where it lies within a tenth of the usual distance of the mean
    row, or where other rows are equal to it. Changes nothing.
    """
    inner = underlying(model)
    ids = tuple(ids)
    found = {index for weight in _tables(inner).values() for index in _untrained(weight, ids, weight.shape[0])}
    return tuple(sorted(found))


def _tables(model: Any) -> dict[str, torch.Tensor]:
    """Give the [V, D] weights that have a row a token: the embedding's, and the head's where it is not the same."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tables = {"embedding": embedding}
    if head is not None and head.weight is not embedding:
        tables["head"] = head.weight
    return tables


@torch.no_grad()
def _untrained(weight: torch.Tensor, ids: Sequence[int], num_known: int) -> tuple[int, ...]:
    if not ids:
        return ()
    rows = weight[:num_known].float()
    norms = rows.norm(dim=1)
    ordinary = norms > 0.1 * norms.median()
    mean = rows[ordinary].mean(0)
    usual_norm, usual_distance = norms.median(), (rows[ordinary] - mean).norm(dim=1).median()
    found = []
    for index in ids:
        row = weight[index].float()
        twins = int((rows - row).norm(dim=1).le(1e-3 * max(float(row.norm()), 1e-12)).sum())
        if row.norm() < 0.1 * usual_norm or (row - mean).norm() < 0.1 * usual_distance or twins > 1:
            found.append(index)
    return tuple(found)


def add_rows(model: Any, num_tokens: int) -> None:
    """Give embedding and head rows for so many tokens, in eights; tied heads stay tied.

    Rows that no token has yet take part in the softmax and may never train, so they are the same whoever adds them and in whichever
    run: an adapter that is opened on its base finds those it was trained with.

    Raises:
        ModelError: If the model's embedding cannot be resized.
    """
    before = model.get_input_embeddings().weight.shape[0]
    if num_tokens <= before:
        return
    rows = -(-num_tokens // ROWS_MULTIPLE) * ROWS_MULTIPLE
    try:
        model.resize_token_embeddings(rows, mean_resizing=False)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(
            f"{type(model).__name__}: its embedding cannot hold new chat tokens ({error}); "
            "set model.stop_token: eos, or choose a template whose tokens the model has"
        ) from None
    for weight in _tables(model).values():
        _draw_rows(weight, range(before, weight.shape[0]), num_known=before, seed=0)


@torch.no_grad()
def _draw_rows(weight: torch.Tensor, rows: Sequence[int], *, num_known: int, seed: int) -> None:
    """Draw rows from the normal distribution with the mean and covariance of the known rows.

    A sum of the N centred rows with independent normal factors over sqrt(N) has exactly their covariance, so no D x D matrix is needed.
    """
    if not rows or weight.is_meta:
        return
    known = torch.ones(weight.shape[0], dtype=torch.bool)
    known[num_known:] = False
    known[list(rows)] = False
    old = weight[known.to(weight.device)].float()
    norms = old.norm(dim=1)
    old = old[norms > 0.1 * norms.median()]
    mean = old.mean(0)
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(len(rows), old.shape[0], generator=generator).to(old.device)
    drawn = mean + factors @ (old - mean) / old.shape[0] ** 0.5
    weight[list(rows)] = drawn.to(weight.dtype)


@torch.no_grad()
def _fill_bias(model: Any, new_ids: Sequence[int]) -> None:
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None and new_ids:
        known = torch.ones(bias.shape[0], dtype=torch.bool)
        known[list(new_ids)] = False
        bias[list(new_ids)] = bias[known.to(bias.device)].mean()
