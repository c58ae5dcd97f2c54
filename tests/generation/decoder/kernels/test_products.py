"""Compiled products have the results of torch's operations, for every number of rows, type, end and kind of processor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from instil.generation.decoder.kernels import machine, products
from instil.generation.decoder.kernels.products import can_multiply, multiply
from instil.generation.decoder.kernels.vectors import Registers

WIDTH = 96
EPS = 1e-5
# The code for other processors is compiled for this one: their registers are narrower or fewer.
PROCESSORS = {
    "this": machine.registers(),
    "AVX-512": Registers(lanes=16, count=32),
    "AVX2": Registers(lanes=8, count=16),
    "NEON": Registers(lanes=4, count=32),
}
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.02}

needs_compiler = pytest.mark.skipif(machine.registers() is None, reason="no code can be compiled here")


@pytest.fixture(params=PROCESSORS)
def processor(request, monkeypatch):
    registers = PROCESSORS[request.param]
    monkeypatch.setattr(products, "registers", lambda: registers)
    products._product.cache_clear()
    yield registers
    products._product.cache_clear()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    difference = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
    assert difference <= TOLERANCE[found.dtype]


def normed(x: Tensor, weights: Tensor) -> Tensor:
    """Return what transformers' RMS norms do."""
    wide = x.float()
    return weights * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def taken_rows(weight: Tensor) -> list[int]:
    rows = [number for number in range(1, 40) if can_multiply(number, weight)]
    assert rows == list(range(1, len(rows) + 1))
    return rows


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
# Few rows of the weight; less than one share of a thread; whole shares (tiles, where there are some), and not whole ones.
@pytest.mark.parametrize("height", [4, 15, 64, 67])
def test_a_product_is_torchs_for_every_number_of_rows(processor, dtype, height):
    weight = random(height, WIDTH, dtype=dtype, seed=1)
    rows = taken_rows(weight)
    assert len(rows) >= 8
    for num_rows in rows:
        x = random(num_rows, WIDTH, dtype=dtype, seed=2)
        check(multiply(x, weight), functional.linear(x, weight))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_what_stands_in_front_and_behind_is_torchs(processor, dtype, num_rows):
    weight, norm = random(64, WIDTH, dtype=dtype, seed=1), random(WIDTH, dtype=dtype, seed=2)
    x, gated = random(num_rows, WIDTH, dtype=dtype, seed=3), 20 * random(num_rows, 2 * WIDTH, dtype=dtype, seed=4)
    bias, residual = random(64, dtype=dtype, seed=5), random(num_rows, 64, dtype=dtype, seed=6)
    check(multiply(x, weight, norm=norm, eps=EPS), functional.linear(normed(x, norm), weight))
    gates, others = gated.chunk(2, dim=-1)
    check(multiply(gated, weight, gated=True), functional.linear(functional.silu(gates) * others, weight))
    for added in (bias, residual):
        check(multiply(x, weight, added=added), functional.linear(x, weight) + added)
    expected = functional.linear(normed(x, norm), weight) + bias
    check(multiply(x, weight, norm=norm, eps=EPS, added=bias), expected)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("height", [5, 16, 17, 48, 4099])
def test_threads_have_the_bits_of_one(dtype, height, two_threads, monkeypatch):
    monkeypatch.setattr(products, "_WORTH_THREADS", 0)
    weight = random(height, WIDTH, dtype=dtype, seed=1)
    for num_rows in (1, 4, 8):
        x, added = random(num_rows, WIDTH, dtype=dtype, seed=2), random(num_rows, height, dtype=dtype, seed=3)
        for number in range(50):  # what two threads do at once may differ from time to time
            together = multiply(x, weight, added=added)
            if not number:
                torch.set_num_threads(1)
                alone = multiply(x, weight, added=added)
                torch.set_num_threads(2)
            assert torch.equal(together, alone)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gate_far_from_zero_is_shut_or_open(dtype):
    gates = torch.tensor([[-1e30, -200.0, -88.5, 0.0, 88.5, 200.0, 1e4] + [1.0] * (WIDTH - 7)], dtype=dtype)
    rows = torch.cat([gates, torch.ones_like(gates)], dim=-1)
    weight = torch.eye(WIDTH, dtype=dtype)
    assert torch.allclose(multiply(rows, weight, gated=True), functional.silu(gates), rtol=1e-2, atol=1e-30)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_finite_number_is_not_hidden(dtype, number):
    x = torch.ones(3, WIDTH, dtype=dtype)
    x[1, 5] = number
    product = multiply(x, torch.ones(32, WIDTH, dtype=dtype))
    assert product[[0, 2]].isfinite().all()
    assert torch.equal(product[1], torch.full((32,), number, dtype=dtype)) or product[1].isnan().all()


@needs_compiler
def test_rows_that_do_not_lie_side_by_side_are_read_as_they_are():
    weight, wide = random(64, WIDTH, dtype=torch.float32), random(3, 2 * WIDTH, dtype=torch.float32, seed=1)
    residual = random(64, 3, dtype=torch.float32, seed=2).t()
    x = wide[:, WIDTH:]
    check(multiply(x, weight, added=residual), functional.linear(x, weight) + residual)


@needs_compiler
def test_what_is_not_taken_is_left_to_libraries():
    weight = torch.zeros(64, WIDTH)
    assert can_multiply(4, weight)
    assert not can_multiply(40, weight)
    assert not can_multiply(4, weight.half())
    assert not can_multiply(4, weight[:, 1:])
    assert not can_multiply(4, weight.t())
    assert not can_multiply(4, torch.zeros(64, WIDTH - 4))
    assert not can_multiply(4, torch.zeros(3, WIDTH))


@pytest.mark.skipif(not getattr(machine.registers(), "tiles", False), reason="this processor has no tiles (AMX)")
def test_tiles_leave_librarys_own_tiles_alone(two_threads):
    weight, large = random(64, WIDTH, dtype=torch.bfloat16), random(256, 256, dtype=torch.bfloat16)
    before = torch.mm(large, large)
    for num_rows in range(5, 17):
        x = random(num_rows, WIDTH, dtype=torch.bfloat16, seed=num_rows)
        assert products._by_tiles(num_rows, weight)
        check(multiply(x, weight), functional.linear(x, weight))
        assert torch.equal(torch.mm(large, large), before)
