"""LLVM code for the attention of one new token a row: rotary positions, the cache's new columns, weighted values.

Shapes: M rows, H heads, K key-value heads, D width of a head, C columns of the cache, V lanes of a vector register.
Row m has its cache in slot m, and its new token goes into column `lengths[m]`.

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
    each,
    function,
    loop,
    prefetch,
    smaller,
    write_shares,
)

NAME = "attention"
"""The function of the module: see `attention_module` for its arguments."""
_REGISTERS = 4
"""Registers of a head that are summed at a time, for each query of a block."""


def queries_together(lanes: int) -> int:
    """Return how many queries make a block, which reads keys and values once. Their sums have to stay in registers."""
    return 4 if lanes == 16 else 2


def attention_module(width: int, *, bf16: bool, registers: Registers) -> str:
    """Return a module with the function `NAME` for one width of a head.

    Its arguments: pointers to the heads [M, H + 2K, D] (queries, keys, values), the weights of their norms [H + K, D]
    or null, cosines and sines [positions, D] (the first half of the sines negated), lengths [M] as 64-bit integers, the
    cached keys and values [M, K, C, D], the result [M, H, D], and scratch memory for queries [M, H, D] and scores
    [M, K, blocks, `queries_together`, S] in fp32; then M, H, K, C and S as 64-bit integers; the epsilon of the norms in fp32;
    and the number of threads. S is a multiple of V, and larger than each length. All matrices are contiguous.

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
    b.call(shared, [*arguments, b.mul(b.mul(num_rows, num_kv), code.blocks(b, num_heads, num_kv)), threads])
    b.ret_void()
    return str(module)


class _AttentionCode:
    """The functions that depend on the width of a head, the type and the registers."""

    def __init__(self, module: ir.Module, width: int, *, bf16: bool, lanes: int) -> None:
        self._module, self._width = module, width
        self._v = Vectors(module, bf16=bf16, lanes=lanes)
        self._registers = width // lanes
        self._queries = queries_together(lanes)

    def blocks(self, b: Any, num_heads: Any, num_kv: Any) -> Any:
        """Return how many blocks the queries of a key-value head make."""
        return b.sdiv(b.add(b.sdiv(num_heads, num_kv), INT(self._queries - 1)), INT(self._queries))

    def write_enter(self) -> ir.Function:
        """Write the function that turns queries and keys by their positions, and fills the cache's new columns."""
        v, width = self._v, INT(self._width)
        enter = function(self._module, "enter", [POINTER] * 8 + [INT] * 4 + [FLOAT])
        heads, norm, cos, sin, lengths, keys, values, queries, num_rows, num_heads, num_kv, columns, eps = enter.args
        b = ir.IRBuilder(enter.append_basic_block())
        has_norm, scale = b.icmp_unsigned("!=", norm, POINTER(None)), v.constant(1 / math.sqrt(self._width))
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
                    v.store_fp32(b, b.fmul(numbers, scale), queries, b.add(first, INT(at * v.lanes)))

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
        """Write the function that attends for a range of blocks: queries of a row that share a key-value head."""
        v, width, block = self._v, INT(self._width), INT(self._queries)
        attend = function(self._module, "attend", [POINTER] * 6 + [INT] * 6)
        lengths, keys, values, result, queries, scores, num_heads, num_kv, columns, room, first, last = attend.args
        b = ir.IRBuilder(attend.append_basic_block())
        group, blocks = b.sdiv(num_heads, num_kv), self.blocks(b, num_heads, num_kv)

        def attend_block(unit: Any) -> None:
            row, rest = b.sdiv(unit, b.mul(num_kv, blocks)), b.srem(unit, b.mul(num_kv, blocks))
            kv, start = b.sdiv(rest, blocks), b.mul(b.srem(rest, blocks), block)
            cache = b.mul(b.mul(b.add(b.mul(row, num_kv), kv), columns), width)
            length = b.add(self._length(b, lengths, row), INT(1))
            # A block that is not full computes its last query several times, with the same bits.
            lasts = [smaller(b, b.add(start, INT(at)), b.sub(group, INT(1))) for at in range(self._queries)]
            heads = [b.add(b.add(b.mul(row, num_heads), b.mul(kv, group)), at) for at in lasts]
            own_queries = [b.gep(queries, [b.mul(head, width)], source_etype=FLOAT) for head in heads]
            places = [b.add(b.mul(unit, block), INT(at)) for at in range(self._queries)]
            own_scores = [b.gep(scores, [b.mul(place, room)], source_etype=FLOAT) for place in places]
            own_results = [v.at(b, result, b.mul(head, width)) for head in heads]
            self._score(b, own_queries, v.at(b, keys, cache), own_scores, length)
            shares = [self._shares(b, place, length) for place in own_scores]
            self._gather(b, own_scores, shares, v.at(b, values, cache), own_results, length)

        each(b, first, last, 1, attend_block)
        b.ret_void()
        return attend

    def _score(self, b: Any, queries: list[Any], keys: Any, scores: list[Any], length: Any) -> None:
        """Write the scores of all columns, a block of queries with as many columns as make a register of sums."""
        v = self._v
        together = v.lanes // len(queries)

        def score_columns(first: Any) -> None:
            # Columns behind the length are not read; their scores are not kept.
            columns = [smaller(b, b.add(first, INT(at)), b.sub(length, INT(1))) for at in range(together)]
            sums = [[v.zero] * together for _ in queries]
            for at in range(self._registers):
                if at % v.parts == 0:
                    for column in columns:
                        prefetch(b, v.at(b, keys, b.add(b.mul(column, INT(self._width)), INT(at * v.lanes))))
                numbers = [self._numbers(b, keys, column, at) for column in columns]
                for query, row in zip(queries, sums, strict=True):
                    part = v.load_fp32(b, query, INT(at * v.lanes))
                    row[:] = [v.fma(b, part, *pair) for pair in zip(numbers, row, strict=True)]
            totals = v.totals(b, [one for row in sums for one in row])
            for at, place in enumerate(scores):
                own = list(range(at * together, (at + 1) * together))
                lanes = ir.Constant(ir.VectorType(INT32, together), own)
                b.store(b.shuffle_vector(totals, totals, lanes), self._at(b, place, first), align=4)

        each(b, INT(0), length, together, score_columns)
        # The last register of scores is whole, and what lies behind the length counts nothing.
        for place in scores:

            def forget(column: Any, place: Any = place) -> None:
                b.store(FLOAT(-math.inf), self._at(b, place, column))

            each(b, length, self._whole(b, length), 1, forget)

    def _shares(self, b: Any, scores: Any, length: Any) -> Any:
        """Write e to the power of each score less the largest in the place of the score; return 1 over their sum."""
        v, whole = self._v, self._whole(b, length)
        places = (INT(0), whole, v.lanes)
        (most,) = loop(
            b, *places, [v.constant(-math.inf)], lambda at, found: [v.maximum(b, v.load_fp32(b, scores, at), found[0])]
        )
        largest = v.all_lanes(b, v.largest(b, most))

        def raise_scores(first: Any, sums: Values) -> Values:
            raised = v.exp(b, b.fsub(v.load_fp32(b, scores, first), largest))
            v.store_fp32(b, raised, scores, first)
            return [b.fadd(sums[0], raised)]

        (sums,) = loop(b, *places, [v.zero], raise_scores)
        return v.all_lanes(b, b.fdiv(FLOAT(1.0), v.total(b, sums)))

    def _gather(
        self, b: Any, scores: list[Any], shares: list[Any], values: Any, results: list[Any], length: Any
    ) -> None:
        """Write the sum of the values of all columns, each times its share, some registers of a head at a time."""
        v = self._v
        for start in range(0, self._registers, _REGISTERS):
            parts = range(start, min(start + _REGISTERS, self._registers))

            def add_column(column: Any, sums: Values, parts: range = parts) -> Values:
                for at in parts[:: v.parts]:
                    prefetch(b, v.at(b, values, b.add(b.mul(column, INT(self._width)), INT(at * v.lanes))))
                numbers = [self._numbers(b, values, column, at) for at in parts]
                weights = [v.all_lanes(b, b.load(self._at(b, place, column), typ=FLOAT)) for place in scores]
                products = [(weight, part) for weight in weights for part in numbers]
                return [v.fma(b, *pair, part) for pair, part in zip(products, sums, strict=True)]

            gathered = iter(loop(b, INT(0), length, 1, [v.zero] * (len(scores) * len(parts)), add_column))
            for share, result in zip(shares, results, strict=True):
                for at in parts:
                    part = v.rounded(b, b.fmul(next(gathered), share))
                    v.store(b, part, v.at(b, result, INT(at * v.lanes)))

    def _at(self, b: Any, matrix: Any, index: Any) -> Any:
        return b.gep(matrix, [index], source_etype=FLOAT)

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
