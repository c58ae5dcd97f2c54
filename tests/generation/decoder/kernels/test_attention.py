"""The compiled attention of one token a row has the results of torch's operations, and writes the cache as they do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from instil.generation.decoder.kernels import attention, machine
from instil.generation.decoder.kernels.attention import Attention, can_attend
from instil.generation.decoder.kernels.vectors import Registers

EPS = 1e-5
PROCESSORS = [Registers(lanes=16, count=32), Registers(lanes=8, count=16), Registers(lanes=4, count=32)]
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 0.02}

pytestmark = pytest.mark.skipif(machine.registers() is None, reason="no code can be compiled here")


@pytest.fixture(params=PROCESSORS, ids=lambda registers: f"{registers.lanes} lanes")
def processor(request, monkeypatch):
    monkeypatch.setattr(attention, "registers", lambda: request.param)
    attention._attention.cache_clear()
    yield request.param
    attention._attention.cache_clear()


def random(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Case:
    """Random rows, and what torch's operations make of them."""

    def __init__(self, lengths: list[int], heads: int, kv: int, width: int, dtype: torch.dtype, *, norm: bool) -> None:
        self.lengths, self._heads, self._kv, self._width = lengths, heads, kv, width
        rows, columns = len(lengths), max(lengths) + 5
        self.heads = random(rows, (heads + 2 * kv) * width, dtype=dtype, seed=1)
        self.norm = random(heads + kv, width, dtype=dtype, seed=2) if norm else None
        angles = torch.arange(columns)[:, None] * torch.logspace(0, -3, width // 2)
        self.cos, sin = torch.cat([angles, angles], -1).cos().to(dtype), angles.sin().to(dtype)
        self.sin = torch.cat([-sin, sin], -1)
        # One slot more than rows, and numbers behind the lengths that must not count.
        self.keys = random(rows + 1, kv, columns, width, dtype=dtype, seed=3)
        self.values = random(rows + 1, kv, columns, width, dtype=dtype, seed=4)

    def expected(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result, and the keys and values as they have to be afterwards."""
        keys, values, results = self.keys.clone(), self.values.clone(), []
        for row, length in enumerate(self.lengths):
            parts = self.heads[row].view(-1, self._width)
            turned = parts[: self._heads + self._kv]
            if self.norm is not None:
                turned = functional.rms_norm(turned, (self._width,), None, EPS) * self.norm
            turned = turned * self.cos[length] + turned.roll(self._width // 2, -1) * self.sin[length]
            keys[row, :, length], values[row, :, length] = turned[self._heads :], parts[self._heads + self._kv :]
            results.append(
                functional.scaled_dot_product_attention(
                    turned[None, : self._heads, None].float(),
                    keys[None, row, :, : length + 1].float(),
                    values[None, row, :, : length + 1].float(),
                    enable_gqa=True,
                ).flatten()
            )
        return torch.stack(results).to(self.heads.dtype), keys, values

    def found(self) -> Tensor:
        attend = Attention(self.lengths, cos=self.cos, sin=self.sin, num_heads=self._heads, num_kv=self._kv, eps=EPS)
        return attend(self.heads, self.norm, self.keys, self.values)


def close(found: Tensor, expected: Tensor) -> bool:
    difference = (found.float() - expected.float()).abs().max()
    return found.dtype == expected.dtype and bool(difference <= TOLERANCE[found.dtype] * expected.float().abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "heads", "kv", "width", "norm"),
    [
        ([0], 1, 1, 32, False),  # the first token
        ([7], 9, 3, 64, False),
        ([15, 0, 16, 17, 300], 4, 2, 64, True),  # rows of other lengths, about whole registers
        ([31, 5], 6, 1, 96, False),  # a width that is no power of two; one key-value head for all
        ([40] * 3, 2, 2, 128, True),
    ],
)
def test_rows_attend_as_torch_does_and_the_cache_gets_their_columns(processor, dtype, lengths, heads, kv, width, norm):
    case = Case(lengths, heads, kv, width, dtype, norm=norm)
    expected, keys, values = case.expected()
    assert close(case.found(), expected)
    assert torch.equal(case.values, values)
    assert close(case.keys, keys)
    unwritten = torch.ones(keys.shape[:3], dtype=torch.bool)
    for row, length in enumerate(lengths):
        unwritten[row, :, length] = False
    assert torch.equal(case.keys[unwritten], keys[unwritten])


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_have_the_bits_of_one(dtype):
    case = Case([900, 3, 250], 8, 2, 64, dtype, norm=False)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(case.found())
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_scores_far_apart_neither_overflow_nor_vanish():
    case = Case([20], 2, 1, 32, torch.float32, norm=False)
    case.heads *= 1e3
    case.keys *= 1e3
    expected, _, _ = case.expected()
    found = case.found()
    assert found.isfinite().all()
    assert close(found, expected)


def test_other_widths_and_types_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(attention, "registers", lambda: PROCESSORS[0])
    assert can_attend(64, torch.float32)
    assert not can_attend(40, torch.float32)
    assert not can_attend(8, torch.float32)
    assert not can_attend(64, torch.float16)
