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
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np

from featstore import kernel_code
from featstore.arrays import FloatArray
from featstore.atomic import write_bytes
from featstore.cache_folder import cache_folder
from featstore.errors import StoreError
from featstore.kernel_code import Code, Index

__all__ = ["Bytes", "Doubles", "Floats", "Int", "Integers", "Library", "Number", "Words", "aligned_floats"]

logger = logging.getLogger(__name__)

_C_TYPES: dict[Any, Any] = {np.dtype(np.int64): ctypes.c_int64, np.dtype(np.float32): ctypes.c_float}
_LINE = 16  # float32 in a line of the processor's cache


class _Kind(NamedTuple):
    """What an argument of a kernel is: one number, or a pointer to those of an array."""

    dtype: np.dtype[Any]
    is_array: bool = True


# annotations of what kernels take besides an Index
Floats = Annotated[Any, _Kind(np.dtype(np.float32))]
Doubles = Annotated[Any, _Kind(np.dtype(np.float64))]
Integers = Annotated[Any, _Kind(np.dtype(np.int64))]
Bytes = Annotated[Any, _Kind(np.dtype(np.uint8))]
Words = Annotated[Any, _Kind(np.dtype(np.uint16))]
Number = Annotated[Any, _Kind(np.dtype(np.float32), is_array=False)]
Int = Annotated[Index, _Kind(np.dtype(np.int32), is_array=False)]  # of C

_FOLDERS: tuple[Callable[[], Path], ...] = (
    lambda: Path(__file__).parent / "__pycache__",
    cache_folder,
)


class Library:
    """Kernels that are compiled together.

    Parameters
    ----------
    source : str
        File that defines them: where it changes, they are compiled again.

    Examples
    --------
    >>> from featstore.kernel_code import LANES
    >>> library = Library(__file__)
    >>> @library.kernel
    ... def double(code: Code, values: Floats, doubled: Floats, count: Index) -> None:
    ...     with code.loop(count, step=LANES) as k:
    ...         code.store(doubled, k, code.load(values, k) + code.load(values, k))
    >>> ones, twos = np.ones(8, np.float32), np.empty(8, np.float32)
    >>> double(ones, twos, 8)
    >>> twos.tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._emitters: list[Callable[..., Index | None]] = []
        self._lock = threading.Lock()
        self._engine: Any = None

    def kernel(self, emit: Callable[..., None]) -> Callable[..., None]:
        """Make a kernel of a function whose first argument, ``code``, is a :class:`Code`.

        Annotations say what the others are: ``Floats``, ``Doubles``, ``Integers``, ``Bytes`` and ``Words`` (pointers;
        calls take contiguous arrays of that type), ``Number`` (float32) or ``Index`` (int64). Calls check neither sizes
        nor numbers.
        """
        self._emitters.append(emit)
        return _Kernel(self, emit)

    def callback(self, emit: Callable[..., Index]) -> Callable[[], int]:
        """Make a function that a C library calls, of one that returns the int64 result in the code.

        Annotations are those of kernels, and ``Int`` for C's. What it becomes gives the address of its machine code.
        """
        self._emitters.append(emit)
        return lambda: self.address(emit.__name__)

    def address(self, name: str) -> int:
        """Address of the machine code of a kernel or a callback."""
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
        for path in (__file__, kernel_code.__file__, self._source):
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
        for emit in self._emitters:
            gives = ir.IntType(64) if get_type_hints(emit)["return"] is Index else ir.VoidType()
            function = ir.Function(module, ir.FunctionType(gives, list(map(_ir_type, _kinds(emit)))), emit.__name__)
            builder = ir.IRBuilder(function.append_basic_block())
            code = Code(builder)
            result = emit(code, *map(code.argument, function.args))
            if result is None:
                builder.ret_void()
            else:
                builder.ret(result.value)
        return module


class _Kernel:
    """A kernel that is called with arrays and numbers; what it means is known at the first call."""

    def __init__(self, library: Library, emit: Callable[..., None]) -> None:
        self._library, self._emit = library, emit
        self._kinds: list[_Kind] = []
        self._function: Any = None
        self.__doc__ = emit.__doc__

    def __call__(self, *arguments: Any) -> None:
        if self._function is None:
            self._kinds = _kinds(self._emit)
            types = (ctypes.c_void_p if kind.is_array else _C_TYPES[kind.dtype] for kind in self._kinds)
            self._function = ctypes.CFUNCTYPE(None, *types)(self._library.address(self._emit.__name__))
        # the arrays stay alive as arguments of this call
        self._function(*map(_passed, self._kinds, arguments))


def _kinds(emit: Callable[..., Any]) -> list[_Kind]:
    """What the arguments behind the code are."""
    hints = get_type_hints(emit, include_extras=True)
    index = _Kind(np.dtype(np.int64), is_array=False)
    return [getattr(hints[name], "__metadata__", [index])[0] for name in hints if name not in ("code", "return")]


def _passed(kind: _Kind, argument: Any) -> Any:
    """Address of an array's numbers, or a number."""
    if not kind.is_array:
        return argument
    if argument.dtype == kind.dtype:
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(argument))  # takes a third of the time of numpy's answer
        except (TypeError, ValueError):  # read-only, empty, or not of one piece
            if argument.flags.c_contiguous:
                return argument.__array_interface__["data"][0]
    raise ValueError(f"an array of a kernel is {argument.dtype}, not {kind.dtype}, or not of one piece")


def aligned_floats(count: int) -> FloatArray:
    """Room for float32 numbers that begins with a line of the cache: vectors across two lines take twice as long."""
    room = np.empty(count + _LINE, np.float32)
    start = -(room.__array_interface__["data"][0] // 4) % _LINE
    return room[start : start + count]


def _ir_type(kind: _Kind) -> Any:
    from llvmlite import ir

    floating = {4: ir.FloatType(), 8: ir.DoubleType()}
    size = kind.dtype.itemsize
    number = floating[size] if kind.dtype.kind == "f" else ir.IntType(8 * size)
    return number.as_pointer() if kind.is_array else number


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
            write_bytes(folder() / name, hashlib.sha256(data).digest() + data)
            return
        except (StoreError, RuntimeError) as error:
            logger.debug("compiled code is not kept: %s", error)
