"""Instructions of AVX512_BF16: products of pairs of 16-bit numbers, summed up in single precision.

A pair fills the place of one float, its first number in the lower half. Vectors of pairs are written as
vectors of floats, so that they are loaded, broadcast and transposed as those are.
"""

from __future__ import annotations

import numpy as np

from emt_cli.engine.bf16 import round_bf16
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.tiling import Floats

LANES = 16
"""The instructions are used on whole vectors of AVX-512."""
_PAIRS = f"<{2 * LANES} x bfloat>"
_HALF = f"<{LANES} x bfloat>"
_EXP2 = (0.999925245, 0.695832847, 0.226069391, 0.0780230066)
"""2 ** x on 0..1 as a polynomial, fitted for the least relative error."""


def dot(f: Function, a: str, b: str, total: str) -> str:
    """Return total + a0 * b0 + a1 * b1 for vectors of pairs a and b."""
    pairs = [(_PAIRS, f.set(f"bitcast {f.vector} {value} to {_PAIRS}")) for value in (a, b)]
    return f.call(f.vector, "x86.avx512bf16.dpbf16ps.512", (f.vector, total), *pairs)


def pair(f: Function, first: str, second: str) -> str:
    """Round two vectors to bf16; return the first's numbers in the first half of a vector, then the second's.

    So numbers that are neighbours in one of them become a pair.
    """
    both = f.call(_PAIRS, "x86.avx512bf16.cvtne2ps2bf16.512", (f.vector, second), (f.vector, first))
    return f.set(f"bitcast {_PAIRS} {both} to {f.vector}")


def interleave(f: Function, first: str, second: str) -> str:
    """Round two vectors to bf16; return pairs of a number of each."""
    both = f.set(f"bitcast {f.vector} {pair(f, first, second)} to {_PAIRS}")
    lanes = ", ".join(f"i32 {lane // 2 + LANES * (lane % 2)}" for lane in range(2 * LANES))
    mixed = f.set(f"shufflevector {_PAIRS} {both}, {_PAIRS} poison, <{2 * LANES} x i32> <{lanes}>")
    return f.set(f"bitcast {_PAIRS} {mixed} to {f.vector}")


def store(f: Function, value: str, address: str) -> None:
    """Round a vector to bf16 and write it: it takes half the room."""
    half = f.set(f"fptrunc {f.vector} {value} to {_HALF}")
    f.emit(f"store {_HALF} {half}, ptr {address}, align 2")


def at(f: Function, address: str, *offsets: str | int) -> str:
    """Move an address by a number of bf16s."""
    for offset in offsets:
        if offset != 0:
            address = f.set(f"getelementptr bfloat, ptr {address}, i64 {offset}")
    return address


def broadcast_two(f: Function, address: str) -> str:
    """Read two neighbouring pairs into all lanes, in turns."""
    wide = f"<{LANES // 2} x i64>"
    two = f.set(f"load i64, ptr {address}, align 4")
    first = f.set(f"insertelement {wide} poison, i64 {two}, i64 0")
    zeros = f"<{LANES // 2} x i32> zeroinitializer"
    every = f.set(f"shufflevector {wide} {first}, {wide} poison, {zeros}")
    return f.set(f"bitcast {wide} {every} to {f.vector}")


def exp2(f: Function, x: str) -> str:
    """2 ** x, relative error 8e-5: less than bf16's own; beyond single precision's range 0 or infinity."""
    v, all_lanes = f.vector, (("i16", "-1"), ("i32", "4"))
    none = (v, "zeroinitializer")
    rest = f.call(v, "x86.avx512.mask.reduce.ps.512", (v, x), ("i32", "9"), none, *all_lanes)  # x - floor(x)
    power = f.number(_EXP2[-1])
    for factor in _EXP2[-2::-1]:
        power = f.multiply_add(power, rest, f.number(factor))
    return f.call(v, "x86.avx512.mask.scalef.ps.512", (v, power), (v, x), none, *all_lanes)


def inverse(f: Function, x: str) -> str:
    """1 / x, relative error 2**-14."""
    none = ((f.vector, "zeroinitializer"), ("i16", "-1"))
    return f.call(f.vector, "x86.avx512.rcp14.ps.512", (f.vector, x), *none)


def to_pairs(lines: Floats) -> Floats:
    """Round lines (n, ...) to bf16 and return pairs of them as floats (n / 2, ...); an odd n gets zeros."""
    even = np.concatenate([lines, np.zeros_like(lines[: len(lines) % 2])])
    bits = round_bf16(even).view(np.uint32)
    pairs: Floats = (bits[0::2] >> 16 | bits[1::2]).view(np.float32)
    return pairs
