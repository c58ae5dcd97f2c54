"""LLVM code that multiplies a few rows with a weight and reads that weight at the speed of the memory.

A step of decoding reads every weight once, so its time is the memory's. The code asks for the weight `AHEAD` bytes
before it needs it; a processor alone looks less far ahead while it multiplies.

Shapes: M rows, K width of a row, O height of the weight, V lanes of a vector register.

Why: no library at hand reads ahead. For 4 and 8 rows in fp32, MKL's and oneDNN's products reach 40 to 60% of the read
bandwidth, and this 80 to 110% (notes of 2026-11-30).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from instil.generation.decoder.kernels.ends_code import BEHIND_ARGUMENTS, FRONT_ARGUMENTS
from instil.generation.decoder.kernels.tile_code import write_tile_multiply
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
    prefetch,
    smaller,
    write_shares,
)

NAME = "product"
"""The function of the module: see `product_module` for its arguments."""
LEAST_HEIGHT = 4
"""Rows of a weight that may be read together."""
UNIT = 16
"""Rows of the weight that one thread takes at least: a cache line of sums."""


def product_module(
    num_rows: int, *, bf16: bool, registers: Registers, front: str, behind: str, tiles: bool = False
) -> str:
    """Return a module with the function `NAME` for one number of rows.

    Its arguments: pointers to the rows [M, K] (or gated ones, [M, 2K]), the weights of the norm [K], the weight [O, K],
    what is added or null, the result [M, O], scratch memory of M K fp32 numbers, and of M O for the sums, which threads
    may write twice with the same bits; then O, K, and how many numbers lie between two rows of what is added (0 for a
    bias), as 64-bit integers; the epsilon of the norm in fp32; what stands in front (`ends_code`); and the number of
    threads. K is a multiple of 2V, and O at least `LEAST_HEIGHT`. All matrices are contiguous.

    Args:
        num_rows: M.
        bf16: Whether all matrices are bf16; else they are fp32.
        registers: Of the processor.
        front: The symbol of `ends_code.FRONT`, as it is compiled for the same case.
        behind: The symbol of `ends_code.BEHIND`.
        tiles: Multiply by the processor's tiles (AMX). Then M is at most 16, and O a multiple of `UNIT`.
    """
    module = ir.Module(name=f"{NAME}_{num_rows}")
    v = Vectors(module, bf16=bf16, lanes=registers.lanes)
    if tiles:
        multiply = write_tile_multiply(module, v, num_rows)
    else:
        multiply = _write_multiply(module, v, num_rows, num_registers=registers.count)
    shared = write_shares(module, _write_part(module, multiply, num_rows, behind), unit=UNIT)
    entry = ir.Function(module, ir.FunctionType(VOID, [POINTER] * 7 + [INT] * 3 + [FLOAT, INT32, INT32]), NAME)
    rows, norm, weight, added, result, scratch, sums, height, width, stride, eps, kind, threads = entry.args
    b = ir.IRBuilder(entry.append_basic_block())
    b.call(declared(module, front, VOID, FRONT_ARGUMENTS), [rows, norm, scratch, INT(num_rows), width, eps, kind])
    b.call(shared, [scratch, weight, added, result, sums, height, width, stride, height, threads])
    b.ret_void()
    return str(module)


def _write_part(module: ir.Module, multiply: ir.Function, num_rows: int, behind: str) -> ir.Function:
    """Write what a thread does: the product with a range of the weight's rows, and what stands behind it."""
    part = function(module, "part", [POINTER] * 5 + [INT] * 5)
    scratch, weight, added, result, sums, height, width, stride, first, last = part.args
    b = ir.IRBuilder(part.append_basic_block())
    b.call(multiply, [scratch, weight, sums, height, width, first, last])
    arguments = [sums, added, result, INT(num_rows), height, stride, first, last]
    b.call(declared(module, behind, VOID, BEHIND_ARGUMENTS), arguments)
    b.ret_void()
    return part


def _write_multiply(module: ir.Module, v: Vectors, num_rows: int, *, num_registers: int) -> ir.Function:
    """Write the function that multiplies the rows in scratch with a range of the weight's rows, by vector registers."""
    # Rows of the weight that are read together share the loads of the rows. Their sums have to stay in registers.
    fits = 2 * num_rows + 3 <= num_registers
    together = LEAST_HEIGHT if num_rows == 1 else 2 if fits else 1
    multiply = function(module, "multiply", [POINTER] * 3 + [INT] * 4)
    scratch, weight, sums, height, width, first, last = multiply.args
    b = ir.IRBuilder(multiply.append_basic_block())

    def rows_of_weight(first_row: Any) -> None:
        # The last rows begin earlier rather than fewer: some are computed twice, with the same bits. Code for fewer of
        # them would take as long to compile again.
        row = smaller(b, first_row, b.sub(height, INT(together)))
        sources = [v.at(b, weight, b.mul(b.add(row, INT(number)), width)) for number in range(together)]
        for (number, m), lanes in _sums(b, v, scratch, sources, width, num_rows).items():
            place = b.add(b.mul(height, INT(m)), b.add(row, INT(number)))
            b.store(v.total(b, lanes), b.gep(sums, [place], source_etype=FLOAT))

    each(b, first, last, together, rows_of_weight)
    b.ret_void()
    return multiply


def _sums(
    b: Any, v: Vectors, scratch: Any, sources: list[Any], width: Any, num_rows: int
) -> dict[tuple[int, int], Any]:
    """Return the products of some rows of the weight with all rows; the lanes of a register are not yet added."""
    keys = [(number, m) for number in range(len(sources)) for m in range(num_rows)]

    def multiply_chunk(first: Any, values: Values) -> Values:
        sums = dict(zip(keys, values, strict=True))
        places = [v.at(b, source, first) for source in sources]
        for place in places:
            prefetch(b, place)
        weights = [v.load_chunk(b, place) for place in places]
        chunk = b.gep(scratch, [b.mul(first, INT(num_rows))], source_etype=FLOAT)
        for part in range(v.parts):
            for m in range(num_rows):
                numbers = v.load_fp32(b, chunk, INT((part * num_rows + m) * v.lanes))
                for number in range(len(sources)):
                    sums[number, m] = v.fma(b, numbers, weights[number][part], sums[number, m])
        return list(sums.values())

    return dict(zip(keys, loop(b, INT(0), width, v.chunk, [v.zero] * len(keys), multiply_chunk), strict=True))
