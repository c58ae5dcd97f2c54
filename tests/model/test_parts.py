from __future__ import annotations

import pytest
import torch
from tests.model.tiny import ARCHITECTURES, MIXING, tiny_model
from torch import nn

from instil.errors import ModelError
from instil.model.parts import beyond_text, blocks_of, take_apart
from instil.model.underlying import underlying


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MIXING])
def test_decoder_head_and_adjustment_make_the_models_own_logits(name: str) -> None:
    model = tiny_model(name, attention="eager").eval()
    parts = take_apart(model)
    ids = torch.arange(3, 10)[None]
    with torch.no_grad():
        states = parts.decoder(input_ids=ids).last_hidden_state
        logits = parts.adjust(parts.head(parts.to_head(states)))
        assert torch.allclose(logits, model(input_ids=ids).logits, atol=1e-5)
    assert parts.vocabulary == logits.shape[-1]


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MIXING])
def test_a_block_is_found_for_every_layer(name: str) -> None:
    model = tiny_model(name)
    blocks = blocks_of(model)
    assert len(blocks) == model.config.get_text_config().num_hidden_layers
    assert len({type(block) for block in blocks}) == 1
    assert beyond_text(model) == []


def test_the_model_inside_a_wrapper_is_found() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def get_base_model(self) -> nn.Module:
            return self.inner

    model = tiny_model("llama")
    assert underlying(Wrapper(model)) is underlying(model) is model


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"LlamaModel: has no decoder with an output head\. Expected a causal language"
    ):
        take_apart(tiny_model("llama").model)
