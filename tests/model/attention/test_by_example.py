"""Claims about attention example by example: which kernel runs, and that blocks change no number."""

from __future__ import annotations

import pytest
import torch
from tests.model.attention.naive import naive

from instil.model.attention import by_example
from instil.model.attention.by_example import Features, attend_by_example
from instil.model.attention.layout import FlatLayout


def states(num_tokens, *, heads=4, kv_heads=2, width=8, value_width=8):
    generator = torch.Generator().manual_seed(1)
    shapes = ((heads, width), (kv_heads, width), (kv_heads, value_width))
    return [torch.randn(1, number, num_tokens, size, generator=generator) for number, size in shapes]


VISIBLE = [
    # start  queries  first  window  keys   mask [queries, keys]
    (0, 3, 0, None, 3, ["100", "110", "111"]),
    (0, 3, 0, 2, 3, ["100", "110", "011"]),
    (0, 3, 0, 1, 3, ["100", "010", "001"]),
    (2, 2, 0, None, 4, ["1110", "1111"]),  # the second block of two queries
    (2, 2, 1, 2, 3, ["110", "011"]),  # keys before the window of the first query are not there
]


@pytest.mark.parametrize(("start", "num_queries", "first", "window", "num_keys", "rows"), VISIBLE)
def test_a_query_sees_itself_and_the_keys_before_it_within_the_window(
    start, num_queries, first, window, num_keys, rows
):
    mask = by_example._visible(start, num_queries, first, window, device=torch.device("cpu"), num_keys=num_keys)
    assert ["".join(str(int(seen)) for seen in row) for row in mask] == rows


KERNELS = [
    # features                                   lengths   plain kernel runs for
    (Features(0.3), [3, 9], []),
    (Features(0.3, window=4), [3, 9], [9]),  # longer than a block, and than its window
    (Features(0.3, window=4), [3, 4], []),  # a block holds it: a mask does
    (Features(0.3, window=9), [3, 9], []),  # the window holds the example
    (Features(0.3, softcap=2.0), [3, 9], [3, 9]),
    (Features(0.3, sinks=torch.zeros(4)), [3, 9], [3, 9]),
]


@pytest.mark.parametrize(("features", "lengths", "plain"), KERNELS)
def test_plain_arithmetic_runs_only_where_torchs_kernel_cannot(features, lengths, plain, monkeypatch):
    ran = []
    original = by_example._one_plain

    def one_plain(query, *rest):
        ran.append(query.shape[2])
        return original(query, *rest)

    monkeypatch.setattr(by_example, "BLOCK", 4)
    monkeypatch.setattr(by_example, "_one_plain", one_plain)
    query, key, value = states(sum(lengths))
    output = attend_by_example(query, key, value, layout=FlatLayout.of(lengths), features=features)
    assert ran == plain
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    assert torch.allclose(output[0], torch.cat([naive(*part, features) for part in parts]), atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_values_may_have_another_width_than_keys(softcap):
    query, key, value = states(5, value_width=6)
    features = Features(0.3, softcap=softcap)
    output = attend_by_example(query, key, value, layout=FlatLayout.of([5]), features=features)
    assert output.shape == (1, 5, 4, 6)
    assert torch.allclose(output[0], naive(query, key, value, features), atol=1e-5)


def test_a_very_negative_sink_takes_nothing_and_a_very_large_one_takes_all():
    query, key, value = states(4)
    layout = FlatLayout.of([4])
    without = attend_by_example(query, key, value, layout=layout, features=Features(0.3))
    for logit, expected in ((-1e4, without), (1e4, torch.zeros_like(without))):
        features = Features(0.3, sinks=torch.full((4,), logit))
        output = attend_by_example(query, key, value, layout=layout, features=features)
        assert torch.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "is_plain"),
    [
        (Features(1.0, window=3), True),
        (Features(1.0, softcap=1.0), False),
        (Features(1.0, sinks=torch.zeros(1)), False),
        (Features(1.0, dropout=0.1), False),
    ],
)
def test_a_window_is_plain_and_everything_else_is_not(features, is_plain):
    assert features.is_plain == is_plain


CUDA_HEADS = [
    # dtype  capability  window  width  heads of the keys that torch gets; 4 heads of queries, 2 of keys
    (torch.float32, (9, 0), None, 8, 4),
    (torch.float16, (7, 5), None, 8, 4),
    (torch.bfloat16, (9, 0), None, 8, 2),  # FlashAttention takes grouped heads
    (torch.bfloat16, (9, 0), 3, 8, 4),  # and no mask
    (torch.bfloat16, (9, 0), None, 264, 4),  # and no wider ones
]


@pytest.mark.parametrize(("dtype", "capability", "window", "width", "expected"), CUDA_HEADS)
def test_memory_efficient_attention_gets_equal_heads(dtype, capability, window, width, expected, monkeypatch):
    """torch took plain arithmetic for grouped heads, and kept the probabilities of all pairs of tokens."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from instil.model.attention.varlen import why_no_varlen

    given = []

    def kernel(query, key, value, **keywords):
        given.append((key.shape[1], value.shape[1], keywords["enable_gqa"]))
        return torch.empty_like(query)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(by_example.F, "scaled_dot_product_attention", kernel)
    monkeypatch.setattr(by_example, "_visible", lambda *rest, **named: "a mask")
    why_no_varlen.cache_clear()
    try:
        with FakeTensorMode():
            query, key = (torch.empty(1, heads, 6, width, device="cuda", dtype=dtype) for heads in (4, 2))
            by_example._one_sdpa(query, key, key, Features(0.3, window=window))
    finally:
        why_no_varlen.cache_clear()
    assert given == [(expected, expected, expected == 2)]


def test_repeated_heads_change_no_number(monkeypatch):
    inputs, layout = states(12), FlatLayout.of([3, 9])
    plain = attend_by_example(*inputs, layout=layout, features=Features(0.3))
    monkeypatch.setattr(by_example, "_needs_equal_heads", lambda query, mask: True)
    assert torch.allclose(attend_by_example(*inputs, layout=layout, features=Features(0.3)), plain, atol=1e-6)
