"""What kernels are written with: numbers of the code being generated, and the instructions that take them.

See Also
--------
featstore.compiling : Compiles kernels, and keeps and calls them.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["LANES", "Bits", "Code", "Index", "Lanes", "Variable"]

LANES = 8  # float32 side by side; the buffers of a 512-point transform then fill the first-level cache and no more

_SIZES = {"float": 4, "double": 8, "i8": 1, "i16": 2}  # bytes, which vectors need no more alignment than


class Index:
    """An int64 in the code being generated."""

    __slots__ = ("code", "value")

    def __init__(self, code: Code, value: Any) -> None:
        self.code, self.value = code, value

    def _with(self, operation: str, other: Index | int) -> Index:
        return Index(self.code, getattr(self.code.builder, operation)(self.value, self.code.index(other).value))

    def __add__(self, other: Index | int) -> Index:
        return self._with("add", other)

    def __sub__(self, other: Index | int) -> Index:
        return self._with("sub", other)

    def __mul__(self, other: Index | int) -> Index:
        return self._with("mul", other)

    def __and__(self, other: Index | int) -> Index:
        return self._with("and_", other)

    def __or__(self, other: Index | int) -> Index:
        return self._with("or_", other)

    def __rshift__(self, other: int) -> Index:
        return self._with("ashr", other)

    def __lt__(self, other: Index | int) -> Any:
        return self.code.builder.icmp_signed("<", self.value, self.code.index(other).value)

    __radd__, __rmul__ = __add__, __mul__


class Lanes:
    """Eight numbers in the code being generated, or one: float32, unless they were made wider."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fdiv(self.value, other.value))

    def __lt__(self, other: Lanes) -> Any:
        return self.builder.fcmp_ordered("<", self.value, other.value)

    def __gt__(self, other: Lanes) -> Any:
        return self.builder.fcmp_ordered(">", self.value, other.value)

    def __abs__(self) -> Lanes:
        return self._intrinsic("fabs")

    def rounded(self) -> Lanes:
        """To whole numbers, halves to even ones."""
        return self._intrinsic("rint")

    def _intrinsic(self, name: str) -> Lanes:
        from llvmlite import ir

        module, kind = self.builder.module, self.value.type
        full = f"llvm.{name}.v{kind.count}{kind.element.intrinsic_name}"
        function = module.globals.get(full) or ir.Function(module, ir.FunctionType(kind, [kind]), full)
        return Lanes(self.builder, self.builder.call(function, [self.value]))


class Bits:
    """Eight int32 in the code being generated, or one."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, operation: str, other: Bits | int) -> Bits:
        if isinstance(other, int):
            from llvmlite import ir

            other = Bits(self.builder, ir.Constant(self.value.type, [other] * self.value.type.count))
        return Bits(self.builder, getattr(self.builder, operation)(self.value, other.value))

    def __add__(self, other: Bits | int) -> Bits:
        return self._with("add", other)

    def __sub__(self, other: Bits | int) -> Bits:
        return self._with("sub", other)

    def __and__(self, other: Bits | int) -> Bits:
        return self._with("and_", other)

    def __lshift__(self, other: int) -> Bits:
        return self._with("shl", other)

    def __rshift__(self, other: int) -> Bits:
        return self._with("ashr", other)


class Variable:
    """A value that changes in the code being generated: an :class:`Index`, :class:`Lanes`, or a pointer."""

    def __init__(self, code: Code, start: Any) -> None:
        self._code, self._wrap = code, type(start) if isinstance(start, Index | Lanes) else None
        with code.builder.goto_entry_block():
            self._place = code.builder.alloca(getattr(start, "value", start).type)
        self.set(start)

    def get(self) -> Any:
        """Current value."""
        value = self._code.builder.load(self._place)
        if self._wrap is None:
            return value
        return Index(self._code, value) if self._wrap is Index else Lanes(self._code.builder, value)

    def set(self, value: Any) -> None:
        """Change it."""
        self._code.builder.store(getattr(value, "value", value), self._place)


class Code:
    """The instructions that kernels are made of."""

    def __init__(self, builder: Any) -> None:
        from llvmlite import ir

        self.builder, self._ir = builder, ir

    def index(self, value: Index | int) -> Index:
        """An integer in the code."""
        return value if isinstance(value, Index) else Index(self, self._ir.Constant(self._ir.IntType(64), value))

    def argument(self, value: Any) -> Any:
        """An argument of the function being generated: integers of any width as an :class:`Index`."""
        if isinstance(value.type, self._ir.IntType):
            return Index(self, self.builder.sext(value, self._ir.IntType(64)))
        return value

    def lesser(self, a: Index | int, b: Index | int) -> Index:
        """The lesser of two integers."""
        a, b = self.index(a), self.index(b)
        return self.chosen(a < b, a, b)

    def chosen(self, condition: Any, a: Index | int, b: Index | int) -> Index:
        """``a`` where the condition holds, ``b`` where not."""
        return Index(self, self.builder.select(condition, self.index(a).value, self.index(b).value))

    def copy(self, target: Any, address: Index, count: Index) -> None:
        """Copy bytes from an address in memory into an array of bytes."""
        byte = self._ir.IntType(8).as_pointer()
        copy = self.builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, self._ir.IntType(64)])
        source = self.builder.inttoptr(address.value, byte)
        self.builder.call(copy, [target, source, count.value, self._ir.Constant(self._ir.IntType(1), 0)])

    def call(self, function: Index, *arguments: Index) -> Index:
        """Call a C function at an address: int64 in, int64 out."""
        kind = self._ir.FunctionType(self._ir.IntType(64), [argument.value.type for argument in arguments])
        pointer = self.builder.inttoptr(function.value, kind.as_pointer())
        return Index(self, self.builder.call(pointer, [argument.value for argument in arguments]))

    def clear(self, target: Any, count: Index) -> None:
        """Make bytes of an array zero."""
        clear = self.builder.module.declare_intrinsic("llvm.memset", [target.type, self._ir.IntType(64)])
        zero, plain = (self._ir.Constant(self._ir.IntType(width), 0) for width in (8, 1))
        self.builder.call(clear, [target, zero, count.value, plain])

    def put(self, array: Any, index: Index | int, value: Index) -> None:
        """Change one number of an int64 array."""
        self.builder.store(value.value, self.builder.gep(array, [self.index(index).value]))

    @contextlib.contextmanager
    def loop(self, stop: Index | int | Variable, *, start: Index | int = 0, step: int = 1) -> Iterator[Index]:
        """Repeat what the block emits for ``start``, ``start + step``, … below ``stop``, which may change meanwhile."""
        builder, ir = self.builder, self._ir
        before, head = builder.block, builder.append_basic_block()
        body, after = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(ir.IntType(64))
        counter.add_incoming(self.index(start).value, before)
        limit = self.index(stop.get() if isinstance(stop, Variable) else stop)
        builder.cbranch(builder.icmp_signed("<", counter, limit.value), body, after)
        builder.position_at_end(body)
        yield Index(self, counter)
        counter.add_incoming((Index(self, counter) + step).value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    def variable(self, start: Any) -> Variable:
        """A value that changes."""
        return Variable(self, start)

    def _vector(self, lanes: int, element: Any = None) -> Any:
        return self._ir.VectorType(element or self._ir.FloatType(), lanes)

    def _place(self, array: Any, index: Index | int, kind: Any) -> Any:
        place = self.builder.gep(array, [self.index(index).value])
        return self.builder.bitcast(place, kind.as_pointer())

    def load(self, array: Any, index: Index | int, lanes: int = LANES) -> Lanes:
        """Numbers of a float32 array from an index on."""
        return Lanes(self.builder, self.builder.load(self._place(array, index, self._vector(lanes)), align=4))

    def store(self, array: Any, index: Index | int, lanes: Lanes) -> None:
        """Put numbers into an array of their type from an index on."""
        kind = lanes.value.type
        self.builder.store(lanes.value, self._place(array, index, kind), align=_SIZES[str(kind.element)])

    def widened(self, lanes: Lanes) -> Lanes:
        """Float32 to float64."""
        kind = self._vector(lanes.value.type.count, self._ir.DoubleType())
        return Lanes(self.builder, self.builder.fpext(lanes.value, kind))

    def narrowed(self, lanes: Lanes) -> Lanes:
        """Float64 to float32, rounded."""
        return Lanes(self.builder, self.builder.fptrunc(lanes.value, self._vector(lanes.value.type.count)))

    def bits(self, lanes: Lanes) -> Bits:
        """Float32 as the integers that their bits spell."""
        kind = self._vector(lanes.value.type.count, self._ir.IntType(32))
        return Bits(self.builder, self.builder.bitcast(lanes.value, kind))

    def from_bits(self, bits: Bits) -> Lanes:
        """Integers as the float32 that their bits spell."""
        return Lanes(self.builder, self.builder.bitcast(bits.value, self._vector(bits.value.type.count)))

    def as_numbers(self, bits: Bits) -> Lanes:
        """Integers to the nearest float32."""
        return Lanes(self.builder, self.builder.sitofp(bits.value, self._vector(bits.value.type.count)))

    def picked(self, table: Any, places: Bits) -> Lanes:
        """Numbers of a float64 array of sixteen, at a place of its own for each lane."""
        from llvmlite.binding import get_host_cpu_features

        lanes, ir = places.value.type.count, self._ir
        if lanes == LANES and get_host_cpu_features().get("avx512f"):  # one instruction for what takes forty below
            kind, wide = self._vector(lanes, ir.DoubleType()), self._vector(lanes, ir.IntType(64))
            halves = [self.builder.load(self._place(table, at, kind), align=8) for at in (0, LANES)]
            name, module = "llvm.x86.avx512.vpermi2var.pd.512", self.builder.module
            take = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind, wide, kind]), name)
            order = self.builder.zext(places.value, wide)
            return Lanes(self.builder, self.builder.call(take, [halves[0], order, halves[1]]))
        found = ir.Constant(self._vector(lanes, ir.DoubleType()), ir.Undefined)
        for lane in range(lanes):
            at = ir.Constant(ir.IntType(32), lane)
            number = self.builder.load(self.builder.gep(table, [self.builder.extract_element(places.value, at)]))
            found = self.builder.insert_element(found, number, at)
        return Lanes(self.builder, found)

    def as_integers(self, lanes: Lanes, bits: int) -> Lanes:
        """Whole numbers to integers of some bits, signed or not: what they do not hold is cut off."""
        count, ir = lanes.value.type.count, self._ir
        whole = self.builder.fptosi(lanes.value, self._vector(count, ir.IntType(32)))
        return Lanes(self.builder, self.builder.trunc(whole, self._vector(count, ir.IntType(bits))))

    def integer(self, array: Any, index: Index | int) -> Index:
        """One number of an int64 array."""
        return Index(self, self.builder.load(self.builder.gep(array, [self.index(index).value])))

    def byte(self, array: Any, index: Index | int) -> Index:
        """One number of an array of bytes."""
        number = self.builder.load(self.builder.gep(array, [self.index(index).value]))
        return Index(self, self.builder.zext(number, self._ir.IntType(64)))

    def spread(self, array: Any, index: Index | int, lanes: int = LANES) -> Lanes:
        """One number of an array in every lane."""
        return self.every(self.builder.load(self.builder.gep(array, [self.index(index).value])), lanes)

    def every(self, number: Any, lanes: int = LANES) -> Lanes:
        """A number (an argument of the kernel) in every lane."""
        nothing = self._ir.Constant(self._vector(lanes, number.type), self._ir.Undefined)
        first = self.builder.insert_element(nothing, number, self._ir.Constant(self._ir.IntType(32), 0))
        return self.shuffle(Lanes(self.builder, first), Lanes(self.builder, nothing), [0] * lanes)

    def constant(self, number: float, lanes: int = LANES) -> Lanes:
        """A number in every lane."""
        return Lanes(self.builder, self._ir.Constant(self._vector(lanes), [float(np.float32(number))] * lanes))

    def double(self, number: float, lanes: int = LANES) -> Lanes:
        """A float64 in every lane."""
        return Lanes(self.builder, self._ir.Constant(self._vector(lanes, self._ir.DoubleType()), [number] * lanes))

    def total(self, lanes: Lanes) -> Lanes:
        """Sum of the lanes, from the first to the last, in a single one."""
        parts = [self.shuffle(lanes, lanes, [lane]) for lane in range(lanes.value.type.count)]
        return functools.reduce(operator.add, parts)

    def select(self, condition: Any, a: Lanes, b: Lanes) -> Lanes:
        """``a`` in the lanes where the condition holds, ``b`` in the others."""
        return Lanes(self.builder, self.builder.select(condition, a.value, b.value))

    def shuffle(self, a: Lanes, b: Lanes, order: list[int]) -> Lanes:
        """Lanes of two vectors, ``b`` counted on from ``a``, in an order."""
        order_type = self._ir.VectorType(self._ir.IntType(32), len(order))
        return Lanes(self.builder, self.builder.shuffle_vector(a.value, b.value, self._ir.Constant(order_type, order)))

    def transpose(self, rows: list[Lanes]) -> list[Lanes]:
        """Eight vectors as rows of a matrix, to its columns: blocks of 4, then 2, then 1 change places."""
        rows, width = list(rows), LANES // 2
        while width:
            low = [lane if lane // width % 2 == 0 else LANES + lane - width for lane in range(LANES)]
            high = [lane + width if lane // width % 2 == 0 else LANES + lane for lane in range(LANES)]
            for row in range(LANES):
                if row // width % 2 == 0:
                    a, b = rows[row], rows[row + width]
                    rows[row], rows[row + width] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            width //= 2
        return rows
