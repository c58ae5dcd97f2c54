"""Cheaper arithmetic for peft's trainable token rows.

peft's layer copies the whole embedding to put a few rows into it, and its gradient is as large. Here the frozen table
is used as it is, and the results of the trained rows replace the table's. Parameters, values and saved files are the
same.

Shapes: K rows, D width, V vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from instil.model.quantization import import_bitsandbytes
from instil.model.to_device import send


def use_row_arithmetic(model: torch.nn.Module) -> int:
    """Change the arithmetic of every layer with trainable rows in a peft model, in place; return how many there are."""
    own, ours = layer_classes()
    layers = [module for module in model.modules() if type(module) is own]
    for layer in layers:
        layer.__class__ = ours
    return len(layers)


@functools.cache
def layer_classes() -> tuple[type, type]:
    """Return peft's class of layers with trainable rows, and the class with this module's arithmetic.

    Why: the class is made here and not at the top of the module, so that importing the module does not import peft.
    """
    import_bitsandbytes()
    from peft.tuners.trainable_tokens.layer import TrainableTokensLayer

    class RowsOverTable(TrainableTokensLayer):  # type: ignore[misc]
        """peft's layer with another forward; `use_row_arithmetic` gives this class to peft's own instances."""

        def forward_adapters(
            self, x: torch.Tensor, active_adapters: list[str], *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            """Look up ids in an embedding, or score states with a head, with the rows of the one active adapter."""
            base = self.base_layer
            is_simple = isinstance(base, torch.nn.Embedding | torch.nn.Linear) and len(active_adapters) == 1
            if self.disable_adapters or self.merged or not is_simple:
                pefts: torch.Tensor = super().forward_adapters(x, active_adapters, *args, **kwargs)
                return pefts
            name = active_adapters[0]
            ids = send(self.token_indices[name], x.device)
            rows = self.trainable_tokens_delta[name]
            output: torch.Tensor = base(x, *args, **kwargs)
            if isinstance(base, torch.nn.Embedding):
                return _embed_over(x, ids, rows, output, scale=self._get_embed_scale())
            bias = None if base.bias is None else base.bias.index_select(0, ids)
            scores = F.linear(x.to(rows.dtype), rows, bias)
            return output.index_copy(-1, ids, scores.to(output.dtype))

    return TrainableTokensLayer, RowsOverTable


def _embed_over(
    x: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, output: torch.Tensor, *, scale: torch.Tensor | None
) -> torch.Tensor:
    """Replace the embeddings of tokens that have a trained row.

    Args:
        x: Token ids, of any shape.
        ids: K ids of the tokens with a row.
        rows: [K, D].
        output: [..., D], the embeddings from the frozen table.
        scale: Factor on embeddings that the layer applies (Gemma).
    """
    order = torch.argsort(ids)
    place = torch.searchsorted(ids[order], x).clamp_(max=ids.shape[0] - 1)
    is_row = ids[order][place] == x
    embedded = F.embedding(order[place], rows)
    if scale is not None:
        embedded = embedded * scale.to(embedded.dtype)
    return torch.where(is_row[..., None], embedded.to(output.dtype), output)
