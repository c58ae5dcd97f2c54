"""Examples as tensors, for training loops other than ours: padded batches and flat ones.

The labels are what Hugging Face's models expect: the ids themselves where a token is trained, -100 elsewhere. Nothing
is shifted here, because those models shift by themselves.

Shapes: B examples, T tokens of the longest one, N tokens of all.

Why: labels hold no fractions. A weight other than 0 and 1 is only in ``weights``, so a loop that reads labels alone
would train something else; the functions here refuse such examples unless they are asked for weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, TypeAlias

from instil.conversation import IGNORED, Example
from instil.errors import EncodingError

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("input_ids", "labels", "weights")
ExampleLike: TypeAlias = "Example | Mapping[str, Tensor]"
"""An `Example`, or what its `to_tensors` returns."""


def collate_padded(
    examples: Sequence[ExampleLike], *, pad_id: int = 0, with_weights: bool = False
) -> dict[str, Tensor]:
    """Return a batch of examples, padded on the right.

    Args:
        examples: B examples, or what their `to_tensors` returns.
        pad_id: Id of the padding; any id will do, because it is masked.
        with_weights: Add ``weights`` [B, T], the loss weight of predicting each token.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, each [B, T].

    Raises:
        EncodingError: If there is no example, or one has weights that labels cannot hold and `with_weights` is false.

    Example:
        >>> batch = collate_padded([Example([5, 6, 7], [0, 1, 1]), Example([8, 9], [0, 1])])
        >>> batch["labels"].tolist()
        [[-100, 6, 7], [-100, 9, -100]]
    """
    import torch  # Why: the function can be named without torch.

    rows = _rows(examples, with_weights=with_weights)
    if not isinstance(pad_id, Integral) or isinstance(pad_id, bool) or not 0 <= pad_id < 2**31:
        raise EncodingError(f"pad_id: found {pad_id!r:.60}. Expected the id of a token. Correct it.")
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: Sequence[Tensor], fill: float) -> Tensor:
        return torch.stack([torch.nn.functional.pad(value, (0, longest - len(value)), value=fill) for value in values])

    batch = {
        "input_ids": padded([row["input_ids"] for row in rows], pad_id),
        "attention_mask": padded([torch.ones_like(row["input_ids"]) for row in rows], 0),
        "labels": padded([row["labels"] for row in rows], IGNORED),
    }
    return batch | ({"weights": padded([row["weights"] for row in rows], 0.0)} if with_weights else {})


def collate_flat(examples: Sequence[ExampleLike], *, with_weights: bool = False) -> dict[str, Tensor]:
    """Return examples laid end to end in one row, without padding.

    The positions of each example start at 0. A model must not let one example see another: transformers' models find
    the borders in ``position_ids`` if there is no ``attention_mask``, as far as their architecture allows it. `instil
    train` measures that for each model, and takes one example at a time where it fails.

    Pass ``use_cache=False`` to the model. With a cache, which is transformers' default, many architectures do not look
    for borders in ``position_ids``, and each example then sees those before it.

    Args:
        examples: The examples, or what their `to_tensors` returns.
        with_weights: Add ``weights`` [1, N], the loss weight of predicting each token.

    Returns:
        ``input_ids``, ``position_ids`` and ``labels``, each [1, N]. The first token of each example is never a label.

    Raises:
        EncodingError: As for `collate_padded`.

    Example:
        >>> batch = collate_flat([Example([5, 6, 7], [0, 1, 1]), Example([8, 9], [0, 1])])
        >>> batch["position_ids"].tolist(), batch["labels"].tolist()
        ([[0, 1, 2, 0, 1]], [[-100, 6, 7, -100, 9]])
    """
    import torch  # Why: the function can be named without torch.

    rows = _rows(examples, with_weights=with_weights)
    batch = {
        "input_ids": torch.cat([row["input_ids"] for row in rows]).unsqueeze(0),
        "position_ids": torch.cat([torch.arange(len(row["input_ids"])) for row in rows]).unsqueeze(0),
        "labels": torch.cat([row["labels"] for row in rows]).unsqueeze(0),
    }
    return batch | ({"weights": torch.cat([row["weights"] for row in rows]).unsqueeze(0)} if with_weights else {})


def _is_row(values: object) -> bool:
    import torch  # Why: as above.

    return isinstance(values, torch.Tensor) and values.dim() == 1


def _rows(examples: Sequence[ExampleLike], *, with_weights: bool) -> list[Mapping[str, Tensor]]:
    """Return the tensors of each example."""
    if isinstance(examples, str | bytes | Mapping) or not hasattr(examples, "__iter__") or not list(examples):
        raise EncodingError(f"batch: found {examples!r:.60}. Expected a list with at least one example. Give one.")
    rows: list[Mapping[str, Tensor]] = []
    for number, example in enumerate(examples):
        if isinstance(example, Example):
            rows.append(example.to_tensors())
        elif isinstance(example, Mapping) and all(_is_row(example.get(name)) for name in _NAMES):
            rows.append(example)
        else:
            raise EncodingError(
                f"batch: example {number} is {example!r:.60}. Expected an Example, or the result of its to_tensors(). "
                "Encode conversations with ChatTokenizer.encode first."
            )
        weights = rows[-1]["weights"]
        if not with_weights and not bool(((weights == 0) | (weights == 1)).all()):
            raise EncodingError(
                f"batch: example {number} has weights other than 0 and 1, which labels cannot hold. "
                "Use with_weights=True, and multiply each token's loss by its weight."
            )
    return rows
