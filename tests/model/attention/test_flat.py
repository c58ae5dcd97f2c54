from __future__ import annotations

import pytest
import torch
from tests.model.attention.naive import naive

from instil.errors import ModelError
from instil.model.attention import by_example
from instil.model.attention.by_example import Features
from instil.model.attention.flat import attend, describe_attention
from instil.model.attention.layout import FlatLayout, set_active_layout

CASES = {
    "plain": Features(scale=0.3),
    "window": Features(scale=0.3, window=3),
    "soft cap": Features(scale=0.3, softcap=2.0),
    "soft cap and window": Features(scale=0.3, softcap=2.0, window=4),
    "sinks": Features(scale=0.3, sinks=torch.linspace(-1, 1, 4)),
    "sinks and window": Features(scale=0.3, window=2, sinks=torch.linspace(-1, 1, 4)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [4, 1024])
def test_each_example_attends_to_itself(case: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_example, "BLOCK", block)
    features, lengths = CASES[case], [6, 1, 9]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 16, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2))
    output, _ = attend(
        torch.nn.Identity(),
        query,
        key,
        value,
        None,
        scaling=features.scale,
        sliding_window=features.window,
        softcap=features.softcap,
        s_aux=features.sinks,
        instil_layout=FlatLayout.of(lengths),
    )
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    expected = torch.cat([naive(q, k, v, features) for q, k, v in parts])
    assert torch.allclose(output[0], expected, atol=1e-5)
    (output**2).sum().backward()
    ours = [tensor.grad.clone() for tensor in (query, key, value) if tensor.grad is not None]
    for tensor in (query, key, value):
        tensor.grad = None
    (expected**2).sum().backward()
    for mine, tensor in zip(ours, (query, key, value), strict=True):
        assert torch.allclose(mine, tensor.grad, atol=1e-4)


def test_without_a_layout_it_refuses() -> None:
    set_active_layout(None)
    states = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ModelError, match="no layout"):
        attend(torch.nn.Identity(), states, states, states, None)
    with pytest.raises(ModelError, match="Keys that belong to no token are not supported"):
        attend(torch.nn.Identity(), states, states, states, None, instil_layout=FlatLayout.of([3]))


def test_masks_and_bidirectional_layers_are_refused() -> None:
    states, layout = torch.zeros(1, 2, 4, 8), FlatLayout.of([4])
    for keywords in ({"is_causal": False}, {"position_bias": states}):
        with pytest.raises(ModelError, match="Choose a causal language model"):
            attend(torch.nn.Identity(), states, states, states, None, instil_layout=layout, **keywords)
    with pytest.raises(ModelError, match="Choose a causal language model"):
        attend(torch.nn.Identity(), states, states, states, torch.zeros(1, 1, 4, 4), instil_layout=layout)


def test_choice_of_kernel_is_named() -> None:
    from types import SimpleNamespace

    assert "soft cap" in describe_attention(
        device="cpu", dtype=torch.bfloat16, config=SimpleNamespace(attn_logit_softcapping=50.0)
    )
    assert "sinks" in describe_attention(
        device="cpu", dtype=torch.bfloat16, config=SimpleNamespace(model_type="gpt_oss")
    )
    assert describe_attention(device="cpu", dtype=torch.bfloat16).startswith("blockwise matrix products")
    assert describe_attention(device="cpu", dtype=torch.float32).startswith("scaled-dot-product")
