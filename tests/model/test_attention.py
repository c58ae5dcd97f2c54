from __future__ import annotations

import pytest
import torch

from instil.errors import ModelError
from instil.model.attention import by_example, varlen
from instil.model.attention.by_example import Features, attend_by_example
from instil.model.attention.cpu import attend_on_cpu
from instil.model.attention.flat import _varlen_serves, attend, describe_attention
from instil.model.attention.layout import FlatLayout, set_active_layout

CASES = {
    "plain": Features(scale=0.3),
    "window": Features(scale=0.3, window=3),
    "soft cap": Features(scale=0.3, softcap=2.0),
    "soft cap and window": Features(scale=0.3, softcap=2.0, window=4),
    "sinks": Features(scale=0.3, sinks=torch.linspace(-1, 1, 4)),
    "sinks and window": Features(scale=0.3, window=2, sinks=torch.linspace(-1, 1, 4)),
}


def naive(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, features: Features) -> torch.Tensor:
    """Attend token by token and head by head: [L, H, D]."""
    groups = query.shape[1] // key.shape[1]
    length = query.shape[2]
    output = torch.zeros(length, query.shape[1], value.shape[-1])
    for head in range(query.shape[1]):
        for token in range(length):
            first = 0 if features.window is None else max(0, token - features.window + 1)
            keys = key[0, head // groups, first : token + 1]
            scores = keys @ query[0, head, token] * features.scale
            if features.softcap is not None:
                scores = features.softcap * torch.tanh(scores / features.softcap)
            if features.sinks is not None:
                scores = torch.cat([scores, features.sinks[head : head + 1]])
            probabilities = torch.softmax(scores, 0)[: keys.shape[0]]
            output[token, head] = probabilities @ value[0, head // groups, first : token + 1]
    return output


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
    with pytest.raises(ModelError, match="keys that belong to no token are not supported"):
        attend(torch.nn.Identity(), states, states, states, None, instil_layout=FlatLayout.of([3]))


def test_masks_and_bidirectional_layers_are_refused() -> None:
    states, layout = torch.zeros(1, 2, 4, 8), FlatLayout.of([4])
    for keywords in ({"is_causal": False}, {"position_bias": states}):
        with pytest.raises(ModelError, match="causal language models"):
            attend(torch.nn.Identity(), states, states, states, None, instil_layout=layout, **keywords)
    with pytest.raises(ModelError, match="causal language models"):
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


@pytest.mark.parametrize("window", [None, 1, 5, 70, 200])
@pytest.mark.parametrize("lengths", [(6, 1, 9), (3, 129, 64, 300, 140)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_on_the_cpu_equal_masked_attention(
    window: int | None, lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    tensors = [torch.randn(1, heads, tokens, 8, generator=generator).to(dtype).requires_grad_() for heads in (4, 2, 2)]
    upstream = torch.randn(1, tokens, 4, 8, generator=generator)
    output = attend_on_cpu(*tensors, lengths=lengths, scale=0.3, window=window)
    output.backward(upstream.to(dtype))
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors]
    features = Features(scale=0.3, window=window)
    parts = zip(*(tensor.split(list(lengths), 2) for tensor in exact), strict=True)
    expected = torch.cat([naive(*part, features) for part in parts])[None]
    expected.backward(upstream)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert torch.allclose(output.float(), expected, atol=tolerance * 3)
    for mine, other in zip(tensors, exact, strict=True):
        assert mine.grad is not None
        assert (mine.grad.float() - other.grad).norm() <= tolerance * max(
            other.grad.norm().item(), 0.2 * upstream.norm().item()
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: 4 cases left out")
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [4, 2])
def test_variable_length_kernel_equals_example_by_example(window: int | None, heads: int) -> None:
    generator = torch.Generator(device="cuda").manual_seed(0)
    shapes = ((4, 64), (heads, 64), (heads, 64))
    tensors = [
        torch.randn(1, number, 16, width, generator=generator, device="cuda", dtype=torch.bfloat16).requires_grad_()
        for number, width in shapes
    ]
    layout, features = FlatLayout.of([6, 1, 9], device="cuda"), Features(scale=0.125, window=window)
    assert _varlen_serves(tensors[0], tensors[2], features)
    results = []
    outputs = (
        varlen.attend_varlen(*tensors, layout=layout, scale=features.scale, window=features.window),
        attend_by_example(*tensors, layout=layout, features=features),
    )
    for output in outputs:
        results.append((output, torch.autograd.grad(output.float().square().sum(), tensors)))
    assert torch.allclose(results[0][0].float(), results[1][0].float(), atol=0.03)
    for first, second in zip(results[0][1], results[1][1], strict=True):
        assert (first.float() - second.float()).norm() <= 0.03 * second.float().norm()


def test_grouped_heads_are_repeated_for_an_older_variable_length_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.attention.varlen as torchs

    seen: dict[str, tuple[int, ...]] = {}

    def older(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: object, **named: object) -> object:
        seen.update(key=tuple(key.shape), value=tuple(value.shape))
        assert named.keys() == {"scale", "window_size"}
        return torch.zeros_like(query)

    monkeypatch.setattr(torchs, "varlen_attn", older)
    monkeypatch.setattr(varlen, "_varlen_parameters", lambda: frozenset({"scale", "window_size"}))
    query, key = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)
    output = varlen.attend_varlen(query, key, key, layout=FlatLayout.of([2, 3]), scale=1.0, window=None)
    assert output.shape == (1, 5, 4, 8)
    assert seen == {"key": (5, 4, 8), "value": (5, 4, 8)}
