"""Cheaper arithmetic for peft's trainable token rows.

peft's layer copies the whole embedding to put a few rows into it, and its gradient is as large. Here the frozen table is used as it
is and the rows' results are laid over it: same parameters, same values, same saved files. Shapes: K rows, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from instil.model.quantization import import_without_network

import_without_network()

from peft.tuners.trainable_tokens.layer import TrainableTokensLayer  # noqa: E402  # it imports bitsandbytes


class RowsOverTable(TrainableTokensLayer):  # type: ignore[misc]
    """peft's layer with another forward; instances are peft's, given this class by `use_row_arithmetic`."""

    def forward_adapters(self, x: torch.Tensor, active_adapters: list[str], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Look up ids, or score states, with the rows of the one active adapter over the base layer's."""
        base = self.base_layer
        simple = isinstance(base, torch.nn.Embedding | torch.nn.Linear) and len(active_adapters) == 1
        if self.disable_adapters or self.merged or not simple:
            whole: torch.Tensor = super().forward_adapters(x, active_adapters, *args, **kwargs)
            return whole
        name = active_adapters[0]
        ids = torch.tensor(self.token_indices[name], device=x.device)
        rows = self.trainable_tokens_delta[name]
        output: torch.Tensor = base(x, *args, **kwargs)
        if isinstance(base, torch.nn.Embedding):
            return self._embed_over(x, ids, rows, output)
        bias = None if base.bias is None else base.bias.index_select(0, ids)
        scores = F.linear(x.to(rows.dtype), rows, bias)
        return output.index_copy(-1, ids, scores.to(output.dtype))

    def _embed_over(self, x: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        order = torch.argsort(ids)
        place = torch.searchsorted(ids[order], x).clamp_(max=ids.shape[0] - 1)
        is_row = ids[order][place] == x
        embedded = F.embedding(order[place], rows)
        scale = self._get_embed_scale()
        if scale is not None:
            embedded = embedded * scale.to(embedded.dtype)
        return torch.where(is_row[..., None], embedded.to(output.dtype), output)


def use_row_arithmetic(model: torch.nn.Module) -> int:
    """Give every layer of peft's trainable rows in a model this arithmetic, and count them."""
    layers = [module for module in model.modules() if type(module) is TrainableTokensLayer]
    for layer in layers:
        layer.__class__ = RowsOverTable
    return len(layers)
