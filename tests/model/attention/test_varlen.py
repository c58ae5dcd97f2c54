from __future__ import annotations

import pytest
import torch

from instil.model.attention import varlen
from instil.model.attention.by_example import Features, attend_by_example
from instil.model.attention.flat import _varlen_serves
from instil.model.attention.layout import FlatLayout


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
