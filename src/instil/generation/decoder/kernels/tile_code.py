"""Products of bf16 rows by the tiles of a processor (Intel's AMX): 16 rows of the weight with up to 16 rows at a time.

A tile holds 16 lines of 64 bytes. Tile 0 has the sums, [16 rows of the weight, M] in fp32; tile 1 has 32 numbers of 16
rows of the weight, as they lie in memory; tile 2 has 16 pairs of numbers of each of the M rows.

Why: from about 8 rows on vector registers multiply no faster than the memory reads.
*Source*: Intel's Software Developer's Manual, volume 1, chapter 18.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from instil.generation.decoder.kernels.vectors import (
    FLOAT,
    INT,
    INT32,
    POINTER,
    VOID,
    Vectors,
    declared,
    each,
    function,
    prefetch,
)

LINES = 16
"""Lines of a tile, and rows of the weight that are multiplied at a time."""
_SUMS, _WEIGHT, _ROWS = range(3)
_BYTE, _CONFIG_BYTES = ir.IntType(8), 64
# Offsets in a configuration: its kind, the bytes of a line (16 bits each), the lines of a tile.
_KIND, _LINE_BYTES, _NUM_LINES = 0, 16, 48


def write_tile_multiply(module: ir.Module, v: Vectors, num_rows: int) -> ir.Function:
    """Write the function that multiplies the rows in scratch with a range of the weight's rows.

    Args:
        module: Of the code.
        v: Its arithmetic, with bf16 matrices and 16 lanes.
        num_rows: M, at most 16.
    """
    clear = declared(module, "llvm.x86.tilezero", VOID, [_BYTE])
    load = declared(module, "llvm.x86.tileloadd64", VOID, [_BYTE, POINTER, INT])
    store = declared(module, "llvm.x86.tilestored64", VOID, [_BYTE, POINTER, INT])
    add_product = declared(module, "llvm.x86.tdpbf16ps", VOID, [_BYTE] * 3)
    config = ir.GlobalVariable(module, ir.ArrayType(_BYTE, _CONFIG_BYTES), "config")
    config.initializer, config.global_constant = _config(num_rows), True

    multiply = function(module, "multiply", [POINTER] * 3 + [INT] * 4)
    scratch, weight, sums, height, width, first, last = multiply.args
    b = ir.IRBuilder(multiply.append_basic_block())
    tile = b.alloca(ir.ArrayType(FLOAT, LINES * num_rows))
    b.call(declared(module, "llvm.x86.ldtilecfg", VOID, [POINTER]), [config])
    line_bytes, row_bytes = b.mul(width, INT(2)), INT(4 * num_rows)

    def sixteen_rows(row: Any) -> None:
        source = v.at(b, weight, b.mul(row, width))
        b.call(clear, [_BYTE(_SUMS)])

        def multiply_chunk(start: Any) -> None:
            place = v.at(b, source, start)
            for line in range(LINES):
                prefetch(b, v.at(b, place, b.mul(width, INT(line))))
            b.call(load, [_BYTE(_WEIGHT), place, line_bytes])
            chunk = b.gep(scratch, [b.mul(b.sdiv(start, INT(2)), INT(num_rows))], source_etype=INT32)
            b.call(load, [_BYTE(_ROWS), chunk, row_bytes])
            b.call(add_product, [_BYTE(_SUMS), _BYTE(_WEIGHT), _BYTE(_ROWS)])

        each(b, INT(0), width, v.chunk, multiply_chunk)
        b.call(store, [_BYTE(_SUMS), tile, row_bytes])

        def turn(m: Any) -> None:
            def turn_number(line: Any) -> None:
                value = b.load(b.gep(tile, [INT32(0), b.add(b.mul(line, INT(num_rows)), m)]), typ=FLOAT)
                b.store(value, b.gep(sums, [b.add(b.mul(height, m), b.add(row, line))], source_etype=FLOAT))

            each(b, INT(0), INT(LINES), 1, turn_number)

        each(b, INT(0), INT(num_rows), 1, turn)

    each(b, first, last, LINES, sixteen_rows)
    # Other libraries expect no tiles in use.
    b.call(declared(module, "llvm.x86.tilerelease", VOID, []), [])
    b.ret_void()
    return multiply


def _config(num_rows: int) -> ir.Constant:
    """Return the configuration of the three tiles."""
    config = bytearray(_CONFIG_BYTES)
    config[_KIND] = 1
    for tile, line_bytes in ((_SUMS, 4 * num_rows), (_WEIGHT, 64), (_ROWS, 4 * num_rows)):
        config[_LINE_BYTES + 2 * tile] = line_bytes
        config[_NUM_LINES + tile] = LINES
    return ir.Constant(ir.ArrayType(_BYTE, _CONFIG_BYTES), config)
