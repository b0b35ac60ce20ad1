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
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from featstore import kernel_code
from featstore.arrays import FloatArray
from featstore.kernel_code import Code, Index

__all__ = ["Library", "aligned_floats"]

logger = logging.getLogger(__name__)

_TYPES = {
    "floats": np.dtype(np.float32),
    "doubles": np.dtype(np.float64),
    "integers": np.dtype(np.int64),
    "bytes": np.dtype(np.uint8),
    "words": np.dtype(np.uint16),
}
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
    >>> from featstore.kernel_code import LANES
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
        self._emitters: dict[str, tuple[tuple[str, ...], Callable[..., Index | None], bool]] = {}
        self._lock = threading.Lock()
        self._engine: Any = None

    def kernel(self, *kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Make a kernel of a function that takes a :class:`Code` and one argument of each kind.

        Kinds are ``floats``, ``doubles``, ``integers``, ``bytes`` and ``words`` (pointers to float32, float64, int64,
        uint8 and uint16; calls take contiguous arrays), ``integer``, ``number`` and ``double`` (int64, float32 and
        float64). Calls check neither sizes nor numbers.
        """

        def made(emit: Callable[..., None]) -> Callable[..., None]:
            self._emitters[emit.__name__] = kinds, emit, False
            return _Kernel(self, emit.__name__, kinds, emit.__doc__)

        return made

    def callback(self, *kinds: str) -> Callable[[Callable[..., Index]], Callable[[], int]]:
        """Make a function that a C library calls, of one that returns the int64 result in the code.

        Kinds are those of kernels, and ``int`` for C's. What it becomes gives the address of its machine code.
        """

        def made(emit: Callable[..., Index]) -> Callable[[], int]:
            self._emitters[emit.__name__] = kinds, emit, True
            return lambda: self.address(emit.__name__)

        return made

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
        for name, (kinds, emit, has_result) in self._emitters.items():
            gives = ir.IntType(64) if has_result else ir.VoidType()
            function = ir.Function(module, ir.FunctionType(gives, [_ir_type(kind) for kind in kinds]), name)
            builder = ir.IRBuilder(function.append_basic_block())
            code = Code(builder)
            result = emit(code, *map(code.argument, function.args, kinds))
            if result is None:
                builder.ret_void()
            else:
                builder.ret(result.value)
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
    if argument.dtype == _TYPES[kind]:
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(argument))  # takes a third of the time of numpy's answer
        except (TypeError, ValueError):  # read-only, empty, or not of one piece
            if argument.flags.c_contiguous:
                return argument.__array_interface__["data"][0]
    raise ValueError(f"{kind} of a kernel are {argument.dtype}, or not of one piece")


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
        "int": ir.IntType(32),
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
