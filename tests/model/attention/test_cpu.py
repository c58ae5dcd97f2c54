from __future__ import annotations

import pytest
import torch
from tests.model.attention.naive import naive

from instil.model.attention.by_example import Features
from instil.model.attention.cpu import attend_on_cpu


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
