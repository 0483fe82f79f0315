"""A writer of LLVM's language: vector code for one processor.

Kernels are written at run time, for the shapes of one network and the vectors of one processor.
https://llvm.org/docs/LangRef.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from emt_cli.engine.native.processor import Processor

LOG2_E = 1.4426950408889634
_EXP2 = (
    1.0000001192092896,
    0.6931469440460205,
    0.24022120237350464,
    0.05550713092088699,
    0.009675541892647743,
    0.001327647129073739,
)
"""2 ** x on -0.5..0.5 as a polynomial, fitted for the least relative error (7e-8)."""


class Function:
    """A function being written. Values are names (%v7) or constants; vectors are of the processor's width.

    Integers are i64, addresses count in floats.
    """

    def __init__(self, name: str, arguments: Sequence[tuple[str, str]], cpu: Processor) -> None:
        self.name, self.arguments = name, arguments
        self.lanes = cpu.lanes
        self.vector = f"<{cpu.lanes} x float>"
        self.integers = f"<{cpu.lanes} x i32>"
        listed = ", ".join(f"{kind} %{argument}" for argument, kind in arguments)
        self.declarations: set[str] = set()
        self._lines = [f"define void @{name}({listed}) #0 {{", "entry:"]
        self._block = "entry"
        self._count = 0

    def module(self) -> str:
        """Return the whole function, with what it declares."""
        bits = 32 * self.lanes
        width = f'"prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        attributes = f"attributes #0 = {{ nounwind {width} }}\n"
        return "\n".join([*sorted(self.declarations), *self._lines, "  ret void", "}", attributes])

    def emit(self, line: str) -> None:
        """Write an instruction without result."""
        self._lines.append(f"  {line}")

    def set(self, instruction: str) -> str:
        """Write an instruction and return the name of its result."""
        self._count += 1
        self.emit(f"%v{self._count} = {instruction}")
        return f"%v{self._count}"

    def call(self, kind: str, name: str, *arguments: tuple[str, str]) -> str:
        """Call one of LLVM's intrinsics with (kind, value) ...; return the name of the result, if any."""
        self.declarations.add(f"declare {kind} @llvm.{name}({', '.join(kind for kind, _ in arguments)})")
        call = f"call {kind} @llvm.{name}({', '.join(f'{kind} {value}' for kind, value in arguments)})"
        if kind != "void":
            return self.set(call)
        self.emit(call)
        return ""

    # Integers and addresses

    def integer(self, operation: str, a: str | int, b: str | int) -> str:
        """Add, sub, mul, srem ... of two integers."""
        return self.set(f"{operation} i64 {a}, {b}")

    def compare(self, how: str, a: str | int, b: str | int) -> str:
        """Compare integers: eq, slt, sge ..."""
        return self.set(f"icmp {how} i64 {a}, {b}")

    def select(self, condition: str, kind: str, a: str | int, b: str | int) -> str:
        """Choose a where the condition holds, else b."""
        return self.set(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def at(self, address: str, *offsets: str | int) -> str:
        """Move an address by a number of floats."""
        for offset in offsets:
            if offset != 0:
                address = self.set(f"getelementptr float, ptr {address}, i64 {offset}")
        return address

    def load_integer(self, address: str, index: str | int) -> str:
        """Read an i64 from an array of them."""
        place = self.set(f"getelementptr i64, ptr {address}, i64 {index}")
        return self.set(f"load i64, ptr {place}, align 8")

    def store_integer(self, value: str, address: str, index: str | int) -> None:
        """Write an i64 into an array of them."""
        place = self.set(f"getelementptr i64, ptr {address}, i64 {index}")
        self.emit(f"store i64 {value}, ptr {place}, align 8")

    # Vectors

    def number(self, value: float) -> str:
        """Return a vector of one constant."""
        single = struct.unpack("<f", struct.pack("<f", value))[0]
        bits = struct.unpack("<Q", struct.pack("<d", single))[0]
        return f"<{', '.join([f'float 0x{bits:016X}'] * self.lanes)}>"

    def load(self, address: str) -> str:
        """Read a vector."""
        return self.set(f"load {self.vector}, ptr {address}, align 4")

    def store(self, value: str, address: str) -> None:
        """Write a vector."""
        self.emit(f"store {self.vector} {value}, ptr {address}, align 4")

    def copy(self, target: str, source: str, floats: int) -> None:
        """Copy a constant number of floats."""
        sizes = (("i64", str(4 * floats)), ("i1", "false"))
        self.call("void", "memcpy.p0.p0.i64", ("ptr", target), ("ptr", source), *sizes)

    def prefetch(self, address: str) -> None:
        """Begin to bring a line of memory into the cache; any address will do."""
        self.call("void", "prefetch.p0", ("ptr", address), ("i32", "0"), ("i32", "3"), ("i32", "1"))

    def broadcast(self, address: str) -> str:
        """Read one float into all lanes."""
        one = self.set(f"load float, ptr {address}, align 4")
        first = self.set(f"insertelement {self.vector} poison, float {one}, i64 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.set(f"shufflevector {self.vector} {first}, {self.vector} poison, {zeros}")

    def op(self, operation: str, a: str, b: str) -> str:
        """Fadd, fsub, fmul, fdiv of two vectors."""
        return self.set(f"{operation} {self.vector} {a}, {b}")

    def multiply_add(self, a: str, b: str, c: str) -> str:
        """Return a * b + c."""
        return self.call(
            self.vector, f"fmuladd.v{self.lanes}f32", *((self.vector, value) for value in (a, b, c))
        )

    def clamp(self, value: str, least: float, most: float) -> str:
        """Limit a vector; NaN becomes `least`."""
        for how, limit in (("ogt", self.number(least)), ("olt", self.number(most))):
            kept = self.set(f"fcmp {how} {self.vector} {value}, {limit}")
            value = self.set(
                f"select <{self.lanes} x i1> {kept}, {self.vector} {value}, {self.vector} {limit}"
            )
        return value

    def exp2(self, x: str, factor: float = 1.0) -> str:
        """2 ** (factor * x), limited to 2**-100..2**120, relative error 2e-7; NaN becomes a limit."""
        x = self.clamp(x, *sorted((-100.0 / factor, 120.0 / factor)))
        magic = self.number(1.5 * 2**23)  # adding it rounds to whole numbers, in the lowest bits
        shifted = self.multiply_add(x, self.number(factor), magic)
        rest = self.multiply_add(x, self.number(factor), self.op("fsub", magic, shifted))
        power = self.number(_EXP2[-1])
        for factor in _EXP2[-2::-1]:
            power = self.multiply_add(power, rest, self.number(factor))
        bits = self.set(f"bitcast {self.vector} {shifted} to {self.integers}")
        places = ", ".join(["i32 23"] * self.lanes)
        exponent = self.set(f"shl {self.integers} {bits}, <{places}>")
        mantissa = self.set(f"bitcast {self.vector} {power} to {self.integers}")
        result = self.set(f"add {self.integers} {mantissa}, {exponent}")
        return self.set(f"bitcast {self.integers} {result} to {self.vector}")

    def transpose(self, rows: Sequence[str]) -> list[str]:
        """Turn as many vectors as there are lanes into those of their columns."""
        now, step = list(rows), 1
        while step < self.lanes:
            then = list(now)
            for index in range(self.lanes):
                if index & step:
                    continue
                a, b = now[index], now[index + step]
                low = [lane if not lane & step else self.lanes + lane - step for lane in range(self.lanes)]
                high = [lane + step if not lane & step else self.lanes + lane for lane in range(self.lanes)]
                then[index], then[index + step] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            now, step = then, step * 2
        return now

    def shuffle(self, a: str, b: str, lanes: Sequence[int]) -> str:
        """Choose lanes out of two vectors, those of b after those of a."""
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.set(f"shufflevector {self.vector} {a}, {self.vector} {b}, <{self.lanes} x i32> <{mask}>")

    # Control

    @contextmanager
    def loop(
        self, start: str | int, end: str | int, *, step: int = 1, carried: Sequence[str] = ()
    ) -> Iterator[Loop]:
        """Write `for index in range(start, end, step)`.

        carried: vectors that go from one turn to the next; the body replaces `loop.values`, which afterwards
        are those of the last turn.
        """
        self._count += 1
        n, before = self._count, self._block
        loop = Loop(f"%i{n}", [f"%c{n}.{k}" for k in range(len(carried))])
        names = list(loop.values)
        self.emit(f"br label %head{n}")
        self._label(f"head{n}")
        place = len(self._lines)
        going = self.compare("slt", loop.index, end)
        self.emit(f"br i1 {going}, label %body{n}, label %end{n}")
        self._label(f"body{n}")
        yield loop
        following = self.integer("add", loop.index, step)
        self.emit(f"br label %head{n}")
        phis = [f"  {loop.index} = phi i64 [ {start}, %{before} ], [ {following}, %{self._block} ]"]
        for name, first, last in zip(names, carried, loop.values, strict=True):
            phis.append(f"  {name} = phi {self.vector} [ {first}, %{before} ], [ {last}, %{self._block} ]")
        self._lines[place:place] = phis
        self._label(f"end{n}")
        loop.values = names

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Write `if condition:`."""
        self._count += 1
        n = self._count
        self.emit(f"br i1 {condition}, label %then{n}, label %after{n}")
        self._label(f"then{n}")
        yield
        self.emit(f"br label %after{n}")
        self._label(f"after{n}")

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name


@dataclass
class Loop:
    """A loop being written."""

    index: str
    values: list[str]
