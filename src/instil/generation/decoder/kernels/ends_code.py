"""LLVM code for what stands in front of a product (an RMS norm, or the gate of an MLP) and behind it (what is added).

Shapes: M rows, K width of a row, O height of the weight, V lanes of a vector register.

Why: it is compiled once for all numbers of rows, and so are not the products. That keeps the first step of a new number
short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir

from instil.generation.decoder.kernels.vectors import (
    FLOAT,
    INT,
    INT32,
    POINTER,
    VOID,
    Registers,
    Values,
    Vectors,
    each,
    loop,
)

PLAIN, NORMED, GATED = range(3)
"""What stands in front."""
FRONT, BEHIND = "front", "behind"
"""The functions of the module."""
FRONT_ARGUMENTS = [POINTER] * 3 + [INT] * 2 + [FLOAT, INT32]
"""Pointers to the rows [M, K] (gated ones are [M, 2K]: gates, then the others), the weights of the norm [K] and
scratch; M and K; epsilon; what stands in front."""
BEHIND_ARGUMENTS = [POINTER] * 3 + [INT] * 5
"""Pointers to the sums [M, O] in fp32, what is added or null, and the result [M, O]; M, O, and how many numbers lie
between two rows of what is added (0 for a bias); the first column, and the one behind the last."""
_PAIRS = 16
_Lay: TypeAlias = Callable[[list[Any], Any, Any], None]


def ends_module(*, bf16: bool, registers: Registers, tiles: bool) -> str:
    """Return a module with the functions `FRONT` and `BEHIND`.

    `FRONT` writes the rows into scratch: for products by vector registers as [chunk, part, M, V] in fp32, for those by
    tiles as [chunk, pair, M] of two bf16 numbers. Numbers are rounded where torch rounds them: after the norm, its
    weights, the gate, the product and the addition.
    """
    module = ir.Module(name="ends")
    v = Vectors(module, bf16=bf16, lanes=registers.lanes)
    _write_front(module, v, tiles=tiles)
    _write_behind(module, v)
    return str(module)


def _write_front(module: ir.Module, v: Vectors, *, tiles: bool) -> None:
    front = ir.Function(module, ir.FunctionType(VOID, FRONT_ARGUMENTS), FRONT)
    rows, norm, scratch, num_rows, width, eps, kind = front.args
    b = ir.IRBuilder(front.append_basic_block())
    place = _Scratch(b, v, scratch, num_rows)
    code = _Front(b, v, place.lay_pairs if tiles else place.lay_parts, width)
    end = front.append_basic_block()
    plain, normed, gated = (front.append_basic_block() for _ in range(3))
    switch = b.switch(kind, plain)
    switch.add_case(INT32(NORMED), normed)
    switch.add_case(INT32(GATED), gated)

    def write(block: Any, body: Callable[[Any], None]) -> None:
        b.position_at_end(block)
        each(b, INT(0), num_rows, 1, body)
        b.branch(end)

    write(plain, lambda row: code.plain(rows, row))
    write(normed, lambda row: code.normed(rows, row, norm, eps))
    write(gated, lambda row: code.gated(rows, row))
    b.position_at_end(end)
    b.ret_void()


class _Scratch:
    """The ways of a chunk's registers into scratch."""

    def __init__(self, b: Any, v: Vectors, scratch: Any, num_rows: Any) -> None:
        self._b, self._v, self._scratch, self._num_rows = b, v, scratch, num_rows

    def lay_parts(self, parts: list[Any], row: Any, first: Any) -> None:
        b, v = self._b, self._v
        # Chunk c of row m begins at number (c parts M + m) V, and its next part M V numbers behind.
        place = b.add(b.mul(first, self._num_rows), b.mul(row, INT(v.lanes)))
        for part in parts:
            v.store_fp32(b, part, self._scratch, place)
            place = b.add(place, b.mul(self._num_rows, INT(v.lanes)))

    def lay_pairs(self, parts: list[Any], row: Any, first: Any) -> None:
        b = self._b
        bits = ir.VectorType(INT32, _PAIRS)
        even, odd = (b.bitcast(part, bits) for part in parts)
        pairs = b.or_(b.lshr(even, ir.Constant(bits, [16] * _PAIRS)), odd)
        place = b.add(b.mul(b.sdiv(first, INT(2)), self._num_rows), row)
        for number in range(_PAIRS):
            pair = b.extract_element(pairs, INT32(number))
            b.store(pair, b.gep(self._scratch, [place], source_etype=INT32))
            place = b.add(place, self._num_rows)


class _Front:
    """The three ways of a row to the product."""

    def __init__(self, b: Any, v: Vectors, lay: _Lay, width: Any) -> None:
        self._b, self._v, self._lay, self._width = b, v, lay, width

    def plain(self, rows: Any, row: Any) -> None:
        b = self._b
        source = self._v.at(b, rows, b.mul(row, self._width))
        self._each_chunk(row, lambda first: self._load(source, first))

    def normed(self, rows: Any, row: Any, norm: Any, eps: Any) -> None:
        b, v = self._b, self._v
        source = v.at(b, rows, b.mul(row, self._width))

        def add_squares(first: Any, sums: Values) -> Values:
            return [v.fma(b, part, part, total) for part, total in zip(self._load(source, first), sums, strict=True)]

        squares = loop(b, INT(0), self._width, v.chunk, [v.zero] * v.parts, add_squares)
        scale = v.rms_scale(b, squares[0] if len(squares) == 1 else b.fadd(*squares), self._width, eps)

        def norm_chunk(first: Any) -> list[Any]:
            parts = [v.rounded(b, b.fmul(part, scale)) for part in self._load(source, first)]
            return [v.rounded(b, b.fmul(*pair)) for pair in zip(parts, self._load(norm, first), strict=True)]

        self._each_chunk(row, norm_chunk)

    def gated(self, rows: Any, row: Any) -> None:
        b, v = self._b, self._v
        gates = v.at(b, rows, b.mul(row, b.mul(self._width, INT(2))))
        others = v.at(b, gates, self._width)

        def gate_chunk(first: Any) -> list[Any]:
            parts = []
            for gate, other in zip(self._load(gates, first), self._load(others, first), strict=True):
                # SiLU: g / (1 + e^-g).
                opened = b.fdiv(gate, b.fadd(v.exp(b, b.fneg(gate)), v.constant(1.0)))
                parts.append(v.rounded(b, b.fmul(v.rounded(b, opened), other)))
            return parts

        self._each_chunk(row, gate_chunk)

    def _each_chunk(self, row: Any, numbers: Callable[[Any], list[Any]]) -> None:
        each(self._b, INT(0), self._width, self._v.chunk, lambda first: self._lay(numbers(first), row, first))

    def _load(self, pointer: Any, first: Any) -> list[Any]:
        return self._v.load_chunk(self._b, self._v.at(self._b, pointer, first))


def _write_behind(module: ir.Module, v: Vectors) -> None:
    behind = ir.Function(module, ir.FunctionType(VOID, BEHIND_ARGUMENTS), BEHIND)
    sums, added, result, num_rows, height, stride, first, last = behind.args
    b = ir.IRBuilder(behind.append_basic_block())
    zero = ir.GlobalVariable(module, v.number, "zero")
    zero.initializer, zero.global_constant = ir.Constant(v.number, 0), True
    nothing = b.icmp_unsigned("==", added, POINTER(None))
    whole = b.sub(last, b.srem(b.sub(last, first), INT(v.lanes)))

    def write_row(row: Any) -> None:
        places = b.mul(row, height), b.mul(row, stride)

        def add_some(column: Any) -> None:
            value = v.rounded(b, v.load_fp32(b, sums, b.add(places[0], column)))
            with b.if_else(nothing) as (as_it_is, plus):
                with as_it_is:
                    v.store(b, value, v.at(b, result, b.add(places[0], column)))
                with plus:
                    total = b.fadd(value, v.load(b, v.at(b, added, b.add(places[1], column))))
                    v.store(b, v.rounded(b, total), v.at(b, result, b.add(places[0], column)))

        def add_one(column: Any) -> None:
            place = b.gep(sums, [b.add(places[0], column)], source_etype=FLOAT)
            value = v.rounded(b, b.load(place, typ=FLOAT))
            other = v.load_one(b, b.select(nothing, zero, v.at(b, added, b.add(places[1], column))))
            v.store_one(b, v.rounded(b, b.fadd(value, other)), v.at(b, result, b.add(places[0], column)))

        each(b, first, whole, v.lanes, add_some)
        each(b, whole, last, 1, add_one)

    each(b, INT(0), num_rows, 1, write_row)
    b.ret_void()
