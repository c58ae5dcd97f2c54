"""Pieces of LLVM code that the kernels share: loops, registers of numbers, rounding, sums and the exponential.

All arithmetic is in fp32. Matrices are fp32 or bf16; a bf16 number is the upper half of an fp32 number.

Shapes: V lanes of a vector register.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

INT, FLOAT, POINTER = ir.IntType(64), ir.FloatType(), ir.PointerType()
INT16, INT32 = ir.IntType(16), ir.IntType(32)
VOID = ir.VoidType()
Values = Sequence[Any]
AHEAD = 8192
"""Bytes that a kernel asks for before it reads them. 4 to 16 KiB are alike; 1 KiB is too few."""
_UPPER = 0xFFFF0000
# Cephes' expf: ln 2 in two parts, and the polynomial of (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
_LN2 = (0.693359375, -2.12194440e-4)
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_EXP_RANGE = (-87.0, 88.3)
"""Below, e^x is taken as 0; above, as infinite. Fp32 reaches as far as -87.3 and 88.7."""


@dataclass(frozen=True, slots=True)
class Registers:
    """The vector registers of a processor.

    Attributes:
        lanes: V, numbers of 32 bits that one holds.
        count: How many there are.
        tiles: Whether it multiplies tiles of bf16 numbers (AMX).
    """

    lanes: int
    count: int
    tiles: bool = False


class Vectors:
    """Arithmetic on registers of fp32 numbers, and the way to and from matrices of one type.

    Args:
        module: Where intrinsics are declared.
        bf16: Whether matrices are bf16; else they are fp32.
        lanes: V.

    Attributes:
        number: The type of a matrix's number.
        vector: The type of V fp32 numbers.
        chunk: Numbers that `load_chunk` reads: V in fp32, 2V in bf16.
        parts: Registers that it returns.
    """

    def __init__(self, module: ir.Module, *, bf16: bool, lanes: int) -> None:
        self.bf16, self.lanes = bf16, lanes
        self.parts = 2 if bf16 else 1
        self.chunk = self.parts * lanes
        self.number = INT16 if bf16 else FLOAT
        self.vector = ir.VectorType(FLOAT, lanes)
        self.zero = ir.Constant(self.vector, None)
        self._align = 2 if bf16 else 4
        self._bits = ir.VectorType(INT32, lanes)
        vector, name = self.vector, f"v{lanes}f32"
        self._fma = declared(module, f"llvm.fmuladd.{name}", vector, [vector] * 3)
        self._sum = declared(module, f"llvm.vector.reduce.fadd.{name}", FLOAT, [FLOAT, vector])
        self._rint = declared(module, f"llvm.rint.{name}", vector, [vector])
        self._largest = declared(module, f"llvm.vector.reduce.fmax.{name}", FLOAT, [vector])
        self._sqrt = declared(module, "llvm.sqrt.f32", FLOAT, [FLOAT])

    def at(self, b: Any, pointer: Any, index: Any) -> Any:
        """Return the address of a matrix's number."""
        return b.gep(pointer, [index], source_etype=self.number)

    def load_chunk(self, b: Any, pointer: Any) -> list[Any]:
        """Return `chunk` numbers of a matrix: one register, or in bf16 the even ones and the odd ones.

        Why: two operations part 2V bf16 numbers into even and odd ones; in their own order it takes four.
        """
        if not self.bf16:
            return [b.load(pointer, typ=self.vector, align=self._align)]
        pairs = b.load(pointer, typ=self._bits, align=self._align)
        even, odd = b.shl(pairs, self._splat(16)), b.and_(pairs, self._splat(_UPPER))
        return [b.bitcast(even, self.vector), b.bitcast(odd, self.vector)]

    def load(self, b: Any, pointer: Any) -> Any:
        """Return V numbers of a matrix, in their order."""
        if not self.bf16:
            return b.load(pointer, typ=self.vector, align=self._align)
        numbers = b.load(pointer, typ=ir.VectorType(INT16, self.lanes), align=self._align)
        return b.bitcast(b.shl(b.zext(numbers, self._bits), self._splat(16)), self.vector)

    def store(self, b: Any, vector: Any, pointer: Any) -> None:
        """Write V rounded numbers into a matrix."""
        if self.bf16:
            vector = b.trunc(b.lshr(b.bitcast(vector, self._bits), self._splat(16)), ir.VectorType(INT16, self.lanes))
        b.store(vector, pointer, align=self._align)

    def load_fp32(self, b: Any, pointer: Any, index: Any) -> Any:
        """Return V numbers of an fp32 matrix, whatever the type of the others is."""
        return b.load(b.gep(pointer, [index], source_etype=FLOAT), typ=self.vector, align=4)

    def store_fp32(self, b: Any, vector: Any, pointer: Any, index: Any) -> None:
        """Write V numbers into an fp32 matrix."""
        b.store(vector, b.gep(pointer, [index], source_etype=FLOAT), align=4)

    def load_one(self, b: Any, pointer: Any) -> Any:
        """Return one number of a matrix."""
        number = b.load(pointer, typ=self.number)
        return b.bitcast(b.shl(b.zext(number, INT32), INT32(16)), FLOAT) if self.bf16 else number

    def store_one(self, b: Any, number: Any, pointer: Any) -> None:
        """Write one rounded number into a matrix."""
        b.store(b.trunc(b.lshr(b.bitcast(number, INT32), INT32(16)), INT16) if self.bf16 else number, pointer)

    def rounded(self, b: Any, numbers: Any) -> Any:
        """Return fp32 numbers, a register or one, rounded to the type of the matrices; a tie goes to the even one."""
        if not self.bf16:
            return numbers
        several = isinstance(numbers.type, ir.VectorType)
        kind = self._bits if several else INT32
        constant = self._splat if several else INT32
        bits = b.bitcast(numbers, kind)
        odd = b.and_(b.lshr(bits, constant(16)), constant(1))
        bits = b.and_(b.add(b.add(bits, constant(0x7FFF)), odd), constant(_UPPER))
        return b.bitcast(bits, numbers.type)

    def fma(self, b: Any, one: Any, other: Any, added: Any) -> Any:
        """Return ``one * other + added``."""
        return b.call(self._fma, [one, other, added])

    def total(self, b: Any, vector: Any) -> Any:
        """Return the sum over the lanes."""
        # Without `reassoc` they would be added one after the other.
        return b.call(self._sum, [FLOAT(-0.0), vector], fastmath=("reassoc",))

    def totals(self, b: Any, vectors: Sequence[Any]) -> Any:
        """Return the sums over the lanes of V registers, one in each lane, in their order.

        Why: pairs of registers are added half by half, so V sums take 3 (V - 1) operations instead of 8 V.
        """
        lanes, registers, width = self.lanes, list(vectors), self.lanes
        while len(registers) > 1:
            # Each register holds groups of `width` lanes; a sum takes the halves of the groups of two registers.
            half = width // 2
            first = [
                source * lanes + group + lane
                for group in range(0, lanes, width)
                for source in (0, 1)
                for lane in range(half)
            ]
            masks = [ir.Constant(self._bits, [at + shift for at in first]) for shift in (0, half)]
            pairs = zip(registers[: len(registers) // 2], registers[len(registers) // 2 :], strict=True)
            registers = [b.fadd(*(b.shuffle_vector(*pair, mask) for mask in masks)) for pair in pairs]
            width = half
        return registers[0]

    def largest(self, b: Any, vector: Any) -> Any:
        """Return the largest number of a register."""
        return b.call(self._largest, [vector])

    def maximum(self, b: Any, one: Any, other: Any) -> Any:
        """Return the larger numbers of two registers."""
        return b.select(b.fcmp_ordered(">", one, other), one, other)

    def all_lanes(self, b: Any, number: Any) -> Any:
        """Return a register that holds one number in all lanes."""
        one = b.insert_element(ir.Constant(self.vector, ir.Undefined), number, INT32(0))
        return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, self.lanes), None))

    def constant(self, number: float) -> Any:
        """Return a register that holds one known number in all lanes."""
        return ir.Constant(self.vector, [number] * self.lanes)

    def rms_scale(self, b: Any, squares: Any, width: Any, eps: Any) -> Any:
        """Return 1 over the root of a mean square, in all lanes, from a register of sums of squares."""
        mean = b.fdiv(self.total(b, squares), b.sitofp(width, FLOAT))
        return self.all_lanes(b, b.fdiv(FLOAT(1.0), b.call(self._sqrt, [b.fadd(mean, eps)])))

    def exp(self, b: Any, vector: Any) -> Any:
        """Return e to the power of each number. *Source*: expf of the Cephes library."""
        least, most = map(self.constant, _EXP_RANGE)
        small, large = b.fcmp_ordered("<", vector, least), b.fcmp_ordered(">", vector, most)
        rest = b.select(large, most, b.select(small, least, vector))
        power = b.call(self._rint, [b.fmul(rest, self.constant(1 / math.log(2)))])
        for part in _LN2:
            rest = self.fma(b, power, self.constant(-part), rest)
        series = self.constant(_EXP[0])
        for factor in _EXP[1:]:
            series = self.fma(b, series, rest, self.constant(factor))
        near_one = b.fadd(self.fma(b, series, b.fmul(rest, rest), rest), self.constant(1.0))
        exponent = b.shl(b.add(b.fptosi(power, self._bits), self._splat(127)), self._splat(23))
        result = b.fmul(near_one, b.bitcast(exponent, self.vector))
        return b.select(large, self.constant(math.inf), b.select(small, self.zero, result))

    def _splat(self, bits: int) -> Any:
        return ir.Constant(self._bits, [bits] * self.lanes)


def loop(b: Any, first: Any, last: Any, step: int, values: Values, body: Callable[[Any, Values], Values]) -> Values:
    """Write ``for index in range(first, last, step): values = body(index, values)``; return the last values."""
    before, function = b.block, b.function
    head, inside, after = (function.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(INT)
    index.add_incoming(first, before)
    carried = [b.phi(value.type) for value in values]
    for phi, value in zip(carried, values, strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", index, last), inside, after)
    b.position_at_end(inside)
    results = body(index, carried)
    index.add_incoming(b.add(index, INT(step)), b.block)
    for phi, value in zip(carried, results, strict=True):
        phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return carried


def each(b: Any, first: Any, last: Any, step: int, body: Callable[[Any], None]) -> None:
    """Write ``for index in range(first, last, step): body(index)``."""

    def without_values(index: Any, _: Values) -> Values:
        body(index)
        return []

    loop(b, first, last, step, [], without_values)


def prefetch(b: Any, pointer: Any) -> None:
    """Ask for the line of memory that is `AHEAD` bytes behind an address. An address of nothing does no harm."""
    name = "llvm.prefetch.p0"
    intrinsic = b.module.globals.get(name) or declared(b.module, name, VOID, [POINTER, INT32, INT32, INT32])
    # A read (0), for the second level of the cache (2), of data (1).
    b.call(intrinsic, [b.gep(pointer, [INT(AHEAD)], source_etype=ir.IntType(8)), INT32(0), INT32(2), INT32(1)])


def smaller(b: Any, one: Any, other: Any) -> Any:
    """Return the smaller of two integers."""
    return b.select(b.icmp_signed("<", one, other), one, other)


def function(module: ir.Module, name: str, arguments: Sequence[Any]) -> ir.Function:
    """Return a new function of the module that nothing outside calls."""
    new = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    new.linkage = "internal"
    return new


def declared(module: ir.Module, name: str, result: Any, arguments: Sequence[Any]) -> ir.Function:
    """Return a function that is defined elsewhere."""
    return ir.Function(module, ir.FunctionType(result, arguments), name)


def write_shares(module: ir.Module, work: ir.Function, *, unit: int) -> ir.Function:
    """Write and return a function that cuts a range among threads of the OpenMP that torch has loaded.

    Args:
        module: Of both functions.
        work: Takes some arguments, then the first and the last number of a range as 64-bit integers.
        unit: Each share but the last is a multiple of it.

    Returns:
        A function that takes the arguments of `work` without its range; then the length of the range, and the number of
        threads as a 32-bit integer.
    """
    kinds = [argument.type for argument in work.args[:-2]]
    job = ir.LiteralStructType([*kinds, INT])
    share = function(module, f"{work.name}_share", [POINTER])
    b = ir.IRBuilder(share.append_basic_block())
    num_threads = b.sext(b.call(declared(module, "omp_get_num_threads", INT32, []), []), INT)
    thread = b.sext(b.call(declared(module, "omp_get_thread_num", INT32, []), []), INT)
    fields = [
        b.load(b.gep(share.args[0], [INT32(0), INT32(number)], source_etype=job), typ=kind)
        for number, kind in enumerate(job.elements)
    ]
    *values, length = fields
    units = b.sdiv(b.add(length, INT(unit - 1)), INT(unit))
    size = b.mul(b.sdiv(b.add(units, b.sub(num_threads, INT(1))), num_threads), INT(unit))
    first = smaller(b, b.mul(size, thread), length)
    b.call(work, [*values, first, smaller(b, b.add(first, size), length)])
    b.ret_void()

    shared = function(module, f"{work.name}_shared", [*kinds, INT, INT32])
    *values, length, threads = shared.args
    b = ir.IRBuilder(shared.append_basic_block())
    several, alone = shared.append_basic_block(), shared.append_basic_block()
    b.cbranch(b.icmp_signed(">", threads, INT32(1)), several, alone)
    b.position_at_end(alone)
    b.call(work, [*values, INT(0), length])
    b.ret_void()
    b.position_at_end(several)
    place = b.alloca(job)
    for number, value in enumerate([*values, length]):
        b.store(value, b.gep(place, [INT32(0), INT32(number)]))
    parallel = declared(module, "GOMP_parallel", VOID, [POINTER, POINTER, INT32, INT32])
    b.call(parallel, [share, place, threads, INT32(0)])
    b.ret_void()
    return shared
