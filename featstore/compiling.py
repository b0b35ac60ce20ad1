"""Inner loops as machine code: written with a few vector instructions, compiled by LLVM once a machine, kept on disk.

A :class:`Library` collects kernels: Python functions that write instructions through a :class:`Code`. At the first call
of one of them all are compiled together and kept beside the source or in the user's cache; every later process only
loads them, which takes milliseconds. Calls let other threads run.

Nothing is contracted or reordered, so a kernel's results are the same on every processor. It needs no particular vector
width: LLVM cuts the lanes to what there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import operator
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featstore.arrays import FloatArray

__all__ = ["LANES", "Bits", "Code", "Index", "Lanes", "Library", "aligned_floats"]

logger = logging.getLogger(__name__)

LANES = 8  # float32 side by side; the buffers of a 512-point transform then fill the first-level cache and no more

_TYPES = {
    "floats": np.dtype(np.float32),
    "doubles": np.dtype(np.float64),
    "integers": np.dtype(np.int64),
    "bytes": np.dtype(np.uint8),
    "words": np.dtype(np.uint16),
}
_SIZES = {"float": 4, "double": 8, "i8": 1, "i16": 2}  # bytes, which vectors need no more alignment than
_LINE = 16  # float32 in a line of the processor's cache

_FOLDERS: tuple[Callable[[], Path], ...] = (
    lambda: Path(__file__).parent / "__pycache__",
    lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featstore",
)


class Library:
    """Kernels that are compiled together.

    Parameters
    ----------
    source : str
        File that defines them: where it changes, they are compiled again.

    Examples
    --------
    >>> library = Library(__file__)
    >>> @library.kernel("floats", "floats", "integer")
    ... def double(code, values, doubled, count):
    ...     with code.loop(count, step=LANES) as k:
    ...         code.store(doubled, k, code.load(values, k) + code.load(values, k))
    >>> ones, twos = np.ones(8, np.float32), np.empty(8, np.float32)
    >>> double(ones, twos, 8)
    >>> twos.tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._emitters: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {}
        self._lock = threading.Lock()
        self._engine: Any = None

    def kernel(self, *kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Make a kernel of a function that takes a :class:`Code` and one argument of each kind.

        Kinds are ``floats``, ``doubles``, ``integers``, ``bytes`` and ``words`` (pointers to float32, float64, int64,
        uint8 and uint16; calls take contiguous arrays), ``integer``, ``number`` and ``double`` (int64, float32 and
        float64). Calls check neither sizes nor numbers.
        """

        def made(emit: Callable[..., None]) -> Callable[..., None]:
            self._emitters[emit.__name__] = kinds, emit
            return _Kernel(self, emit.__name__, kinds, emit.__doc__)

        return made

    def address(self, name: str) -> int:
        """Address of a kernel's machine code."""
        with self._lock:
            if self._engine is None:
                self._engine = self._load()
            return int(self._engine.get_function_address(name))

    def _load(self) -> Any:
        from llvmlite import binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
        )
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(self._object(llvm, machine)))
        engine.finalize_object()
        return engine

    def _object(self, llvm: Any, machine: Any) -> bytes:
        """Machine code as an object file, compiled unless it is kept on disk."""
        import llvmlite

        parts = [llvmlite.__version__, machine.triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
        digest = hashlib.sha256("\n".join(parts).encode())
        for path in (__file__, self._source):
            digest.update(Path(path).read_bytes())
        name = f"{Path(self._source).stem}.{digest.hexdigest()[:24]}.object"
        if (kept := _read_kept(name)) is not None:
            return kept
        module = llvm.parse_assembly(str(self._module()))
        module.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=3)
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = True
        passes = llvm.create_pass_builder(machine, tuning)
        passes.getModulePassManager().run(module, passes)
        compiled: bytes = machine.emit_object(module)
        _keep(name, compiled)
        return compiled

    def _module(self) -> Any:
        from llvmlite import ir

        module = ir.Module()
        for name, (kinds, emit) in self._emitters.items():
            function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_ir_type(kind) for kind in kinds]), name)
            builder = ir.IRBuilder(function.append_basic_block())
            code = Code(builder)
            emit(code, *(Index(code, a) if k == "integer" else a for a, k in zip(function.args, kinds, strict=True)))
            builder.ret_void()
        return module


class _Kernel:
    """A kernel that is called with arrays and numbers; what it means is known at the first call."""

    def __init__(self, library: Library, name: str, kinds: tuple[str, ...], doc: str | None) -> None:
        self._library, self._name, self._kinds = library, name, kinds
        self._function: Any = None
        self.__doc__ = doc

    def __call__(self, *arguments: Any) -> None:
        if self._function is None:
            types: dict[str, Any] = {"integer": ctypes.c_int64, "number": ctypes.c_float, "double": ctypes.c_double}
            prototype = ctypes.CFUNCTYPE(None, *(types.get(kind, ctypes.c_void_p) for kind in self._kinds))
            self._function = prototype(self._library.address(self._name))
        # the arrays stay alive as arguments of this call
        self._function(*map(_passed, self._kinds, arguments))


def _passed(kind: str, argument: Any) -> Any:
    """Address of an array's numbers, or a number."""
    if kind not in _TYPES:
        return argument
    if argument.dtype != _TYPES[kind] or not argument.flags.c_contiguous:
        raise ValueError(f"{kind} of a kernel are {argument.dtype}, or not of one piece")
    return argument.__array_interface__["data"][0]


def aligned_floats(count: int) -> FloatArray:
    """Room for float32 numbers that begins with a line of the cache: vectors across two lines take twice as long."""
    room = np.empty(count + _LINE, np.float32)
    start = -(room.__array_interface__["data"][0] // 4) % _LINE
    return room[start : start + count]


def _ir_type(kind: str) -> Any:
    from llvmlite import ir

    plain = {
        "floats": ir.FloatType().as_pointer(),
        "integers": ir.IntType(64).as_pointer(),
        "doubles": ir.DoubleType().as_pointer(),
        "bytes": ir.IntType(8).as_pointer(),
        "words": ir.IntType(16).as_pointer(),
        "integer": ir.IntType(64),
        "number": ir.FloatType(),
        "double": ir.DoubleType(),
    }
    return plain[kind]


def _read_kept(name: str) -> bytes | None:
    """Machine code that an earlier process kept; None where there is none, or it is not whole."""
    for folder in _FOLDERS:
        with contextlib.suppress(OSError, RuntimeError):
            data = (folder() / name).read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                return data[32:]
    return None


def _keep(name: str, data: bytes) -> None:
    """Keep machine code for the next process, beside the source or in the user's cache."""
    for folder in _FOLDERS:
        try:
            folder().mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder(), prefix=f".{name}.", delete=False) as part:
                part.write(hashlib.sha256(data).digest() + data)
            os.replace(part.name, folder() / name)
            return
        except (OSError, RuntimeError) as error:
            logger.debug("compiled code is not kept in %s: %s", folder, error)


# ---- what kernels are written with ---------------------------------------------------------------------------------


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

    def __rshift__(self, other: int) -> Index:
        return self._with("ashr", other)

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

    @contextlib.contextmanager
    def loop(self, stop: Index | int, *, start: Index | int = 0, step: int = 1) -> Iterator[Index]:
        """Repeat what the block emits for ``start``, ``start + step``, … below ``stop``."""
        builder, ir = self.builder, self._ir
        before, head = builder.block, builder.append_basic_block()
        body, after = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(ir.IntType(64))
        counter.add_incoming(self.index(start).value, before)
        builder.cbranch(builder.icmp_signed("<", counter, self.index(stop).value), body, after)
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
        """Numbers of a float64 array, at a place of its own for each lane."""
        found = self._ir.Constant(self._vector(places.value.type.count, self._ir.DoubleType()), self._ir.Undefined)
        for lane in range(places.value.type.count):
            at = self._ir.Constant(self._ir.IntType(32), lane)
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

    def spread(self, array: Any, index: Index | int, lanes: int = LANES) -> Lanes:
        """One number of a float32 array in every lane."""
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
