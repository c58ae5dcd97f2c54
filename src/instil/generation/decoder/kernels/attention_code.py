"""LLVM code for the attention of one new token a row: rotary positions, the cache's new columns, and the weighted values.

Shapes: M rows, H heads, K key-value heads, D width of a head, C columns of the cache, V lanes of a vector register. Row m
has its cache in slot m, and its new token goes into column `lengths[m]`.

Why: torch's attention takes 240 us for 8 rows of 60 columns in bf16, and the operations around it 100 us more; this
takes a tenth (notes of 2026-11-30).
"""

from __future__ import annotations

import math
from typing import Any

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
    declared,
    each,
    function,
    loop,
    write_shares,
)

NAME = "attention"
"""The function of the module: see `attention_module` for its arguments."""


def attention_module(width: int, *, bf16: bool, registers: Registers) -> str:
    """Return a module with the function `NAME` for one width of a head.

    Its arguments: pointers to the heads [M, H + 2K, D] (queries, keys, values), the weights of their norms [H + K, D] or
    null, cosines and sines [positions, D] (the first half of the sines negated), lengths [M] as 64-bit integers, the
    cached keys and values [M, K, C, D], the result [M, H, D], and scratch memory for queries [M, H, D] and scores [M, H,
    S] in fp32; then M, H, K, C and S as 64-bit integers; the epsilon of the norms in fp32; and the number of threads. S is a
    multiple of V, and larger than each length. All matrices are contiguous.

    Args:
        width: D, a multiple of 2V.
        bf16: Whether heads, tables and cache are bf16; else they are fp32.
        registers: Of the processor.
    """
    module = ir.Module(name=f"{NAME}_{width}")
    code = _AttentionCode(module, width, bf16=bf16, lanes=registers.lanes)
    enter = code.write_enter()
    shared = write_shares(module, code.write_attend(), unit=1)
    entry = ir.Function(module, ir.FunctionType(VOID, [POINTER] * 10 + [INT] * 5 + [FLOAT, INT32]), NAME)
    heads, norm, cos, sin, lengths, keys, values, result, queries, scores = entry.args[:10]
    num_rows, num_heads, num_kv, columns, room, eps, threads = entry.args[10:]
    b = ir.IRBuilder(entry.append_basic_block())
    b.call(enter, [heads, norm, cos, sin, lengths, keys, values, queries, num_rows, num_heads, num_kv, columns, eps])
    arguments = [lengths, keys, values, result, queries, scores, num_heads, num_kv, columns, room]
    b.call(shared, [*arguments, b.mul(num_rows, num_heads), threads])
    b.ret_void()
    return str(module)


class _AttentionCode:
    """The functions that depend on the width of a head, the type and the registers."""

    def __init__(self, module: ir.Module, width: int, *, bf16: bool, lanes: int) -> None:
        self._module, self._width = module, width
        self._v = Vectors(module, bf16=bf16, lanes=lanes)
        self._registers = width // lanes
        self._max = declared(module, "llvm.maxnum.f32", FLOAT, [FLOAT, FLOAT])

    def write_enter(self) -> ir.Function:
        """Write the function that turns queries and keys by their positions, and puts keys and values into the cache."""
        v, width = self._v, INT(self._width)
        enter = function(self._module, "enter", [POINTER] * 8 + [INT] * 4 + [FLOAT])
        heads, norm, cos, sin, lengths, keys, values, queries, num_rows, num_heads, num_kv, columns, eps = enter.args
        b = ir.IRBuilder(enter.append_basic_block())
        has_norm = b.icmp_unsigned("!=", norm, POINTER(None))
        all_heads = b.add(num_heads, b.mul(num_kv, INT(2)))

        def enter_row(row: Any) -> None:
            position = self._length(b, lengths, row)
            turns = [[self._numbers(b, table, position, at) for at in range(self._registers)] for table in (cos, sin)]

            def turned(head: Any) -> list[Any]:
                numbers = self._load(b, v.at(b, heads, b.mul(b.add(b.mul(row, all_heads), head), width)))
                numbers = self._normed(b, numbers, norm, head, has_norm, eps)
                return self._turned(b, numbers, *turns)

            def enter_query(head: Any) -> None:
                first = b.mul(b.add(b.mul(row, num_heads), head), width)
                for at, numbers in enumerate(turned(head)):
                    v.store_fp32(b, numbers, queries, b.add(first, INT(at * v.lanes)))

            def enter_key_value(head: Any) -> None:
                column = b.add(b.mul(b.add(b.mul(row, num_kv), head), columns), position)
                key = turned(b.add(num_heads, head))
                behind = b.add(b.add(num_heads, num_kv), head)
                value = self._load(b, v.at(b, heads, b.mul(b.add(b.mul(row, all_heads), behind), width)))
                for cache, numbers in ((keys, key), (values, value)):
                    self._store(b, numbers, v.at(b, cache, b.mul(column, width)))

            each(b, INT(0), num_heads, 1, enter_query)
            each(b, INT(0), num_kv, 1, enter_key_value)

        each(b, INT(0), num_rows, 1, enter_row)
        b.ret_void()
        return enter

    def _normed(self, b: Any, numbers: list[Any], norm: Any, head: Any, has_norm: Any, eps: Any) -> list[Any]:
        """Return a head after its RMS norm, or as it is where there is no norm."""
        v, before = self._v, b.block
        with b.if_then(has_norm):
            squares = v.zero
            for part in numbers:
                squares = v.fma(b, part, part, squares)
            scale = v.rms_scale(b, squares, INT(self._width), eps)
            normed = []
            for at, part in enumerate(numbers):
                part = v.rounded(b, b.fmul(part, scale))
                normed.append(v.rounded(b, b.fmul(part, self._numbers(b, norm, head, at))))
            inside = b.block
        results = []
        for part, other in zip(normed, numbers, strict=True):
            phi = b.phi(v.vector)
            phi.add_incoming(part, inside)
            phi.add_incoming(other, before)
            results.append(phi)
        return results

    def _turned(self, b: Any, numbers: list[Any], cos: list[Any], sin: list[Any]) -> list[Any]:
        """Return a head that is turned by its position: each number by the one half a head away."""
        v, half = self._v, self._registers // 2
        partners = numbers[half:] + numbers[:half]
        kept = [v.rounded(b, b.fmul(part, turn)) for part, turn in zip(numbers, cos, strict=True)]
        return [v.rounded(b, v.fma(b, *pair)) for pair in zip(partners, sin, kept, strict=True)]

    def write_attend(self) -> ir.Function:
        """Write the function that attends for a range of heads, those of all rows one after the other."""
        v, width = self._v, INT(self._width)
        attend = function(self._module, "attend", [POINTER] * 6 + [INT] * 6)
        lengths, keys, values, result, queries, scores, num_heads, num_kv, columns, room, first, last = attend.args
        b = ir.IRBuilder(attend.append_basic_block())

        def attend_head(unit: Any) -> None:
            row, head = b.sdiv(unit, num_heads), b.srem(unit, num_heads)
            kv = b.sdiv(head, b.sdiv(num_heads, num_kv))
            start = b.mul(b.mul(b.add(b.mul(row, num_kv), kv), columns), width)
            length = b.add(self._length(b, lengths, row), INT(1))
            own_scores = b.gep(scores, [b.mul(unit, room)], source_etype=FLOAT)
            query = b.gep(queries, [b.mul(unit, width)], source_etype=FLOAT)
            largest = self._score(b, query, v.at(b, keys, start), own_scores, length)
            total = self._exponents(b, own_scores, largest, length)
            gathered = self._gathered(b, own_scores, v.at(b, values, start), length)
            share = v.all_lanes(b, b.fdiv(FLOAT(1.0), total))
            self._store(
                b, [v.rounded(b, b.fmul(part, share)) for part in gathered], v.at(b, result, b.mul(unit, width))
            )

        each(b, first, last, 1, attend_head)
        b.ret_void()
        return attend

    def _score(self, b: Any, query: Any, keys: Any, scores: Any, length: Any) -> Any:
        """Write the score of each column; return the largest."""
        v, scale = self._v, self._v.constant(1 / math.sqrt(self._width))
        parts = [b.fmul(v.load_fp32(b, query, INT(at * v.lanes)), scale) for at in range(self._registers)]

        def score_column(column: Any, values: Values) -> Values:
            sums = v.zero
            for at, part in enumerate(parts):
                sums = v.fma(b, part, self._numbers(b, keys, column, at), sums)
            score = v.total(b, sums)
            b.store(score, b.gep(scores, [column], source_etype=FLOAT))
            return [b.call(self._max, [values[0], score])]

        (largest,) = loop(b, INT(0), length, 1, [FLOAT(-math.inf)], score_column)
        # The last register of scores is whole, and what lies behind the length counts nothing.
        each(
            b,
            length,
            self._whole(b, length),
            1,
            lambda at: b.store(FLOAT(-math.inf), b.gep(scores, [at], source_etype=FLOAT)),
        )
        return largest

    def _exponents(self, b: Any, scores: Any, largest: Any, length: Any) -> Any:
        """Write e to the power of each score less the largest in the place of the score; return their sum."""
        v, most = self._v, self._v.all_lanes(b, largest)

        def raise_scores(first: Any, values: Values) -> Values:
            raised = v.exp(b, b.fsub(v.load_fp32(b, scores, first), most))
            v.store_fp32(b, raised, scores, first)
            return [b.fadd(values[0], raised)]

        (sums,) = loop(b, INT(0), self._whole(b, length), v.lanes, [v.zero], raise_scores)
        return v.total(b, sums)

    def _gathered(self, b: Any, shares: Any, values: Any, length: Any) -> Values:
        """Return the sum of the values of all columns, each times its share."""
        v = self._v

        def add_column(column: Any, sums: Values) -> Values:
            share = v.all_lanes(b, b.load(b.gep(shares, [column], source_etype=FLOAT), typ=FLOAT))
            return [v.fma(b, share, self._numbers(b, values, column, at), part) for at, part in enumerate(sums)]

        return loop(b, INT(0), length, 1, [v.zero] * self._registers, add_column)

    def _whole(self, b: Any, length: Any) -> Any:
        """Return a length rounded up to whole registers."""
        lanes = self._v.lanes
        return b.mul(b.sdiv(b.add(length, INT(lanes - 1)), INT(lanes)), INT(lanes))

    def _length(self, b: Any, lengths: Any, row: Any) -> Any:
        return b.load(b.gep(lengths, [row], source_etype=INT), typ=INT)

    def _numbers(self, b: Any, matrix: Any, row: Any, at: int) -> Any:
        """Return a register of a row of a matrix [.., D]."""
        first = b.add(b.mul(row, INT(self._width)), INT(at * self._v.lanes))
        return self._v.load(b, self._v.at(b, matrix, first))

    def _load(self, b: Any, pointer: Any) -> list[Any]:
        return [self._numbers(b, pointer, INT(0), at) for at in range(self._registers)]

    def _store(self, b: Any, numbers: list[Any], pointer: Any) -> None:
        for at, part in enumerate(numbers):
            self._v.store(b, part, self._v.at(b, pointer, INT(at * self._v.lanes)))
