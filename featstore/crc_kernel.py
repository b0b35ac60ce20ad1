"""CRC-32C at the speed of the processor's own instruction, without Python's lock: for reading in several threads.

The instruction takes 8 bytes every cycle but answers after three, so three thirds of the data go through it side by
side; the ends are joined by the linearity of the checksum (advancing a register over n zero bytes is a 32 x 32 matrix
of bits). Before that, the pages of a mapped file are entered into the page table in one go: left to themselves they
would be entered a few at a time, each with an interruption.

Importing this module compiles it (or reads what an earlier process compiled).
"""

from __future__ import annotations

import platform
import sys
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _intrinsic

__all__ = ["SUPPORTED", "crc32c_of"]

intrinsic: Any = _intrinsic  # its declared type counts the context among a call's arguments
_declared: Any = cgutils.get_or_insert_function

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_LINUX = sys.platform.startswith("linux")
_POPULATE_READ = 22  # MADV_POPULATE_READ: Linux 5.14; others answer with an error that changes nothing
_PAGE = 4096
_STREAMS_FROM = 4096  # bytes; below this one stream is as fast
_MAPPED_FROM = 1 << 16


def _has_instruction() -> bool:
    from llvmlite.binding import get_host_cpu_features

    return platform.machine() in ("x86_64", "AMD64") and bool(get_host_cpu_features().get("sse4.2", False))


SUPPORTED = _has_instruction()
"""Whether this processor has the instruction."""


@intrinsic
def _step(context, register, word):  # type: ignore[no-untyped-def]
    """Take 8 bytes into a register."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64), ir.IntType(64)])
        function = _declared(builder.module, kind, "llvm.x86.sse42.crc32.64.64")
        return builder.call(function, values)

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _step_byte(context, register, byte):  # type: ignore[no-untyped-def]
    """Take one byte into a register."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), ir.IntType(8)])
        function = _declared(builder.module, kind, "llvm.x86.sse42.crc32.32.8")
        narrow = builder.trunc(values[0], ir.IntType(32))
        return builder.zext(builder.call(function, [narrow, values[1]]), ir.IntType(64))

    return types.uint64(types.uint64, types.uint8), generate


@intrinsic
def _word(context, data, offset):  # type: ignore[no-untyped-def]
    """The 8 bytes at an offset, which need not be aligned."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, values[0]).data
        pointer = builder.bitcast(builder.gep(start, [values[1]]), ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(data, types.int64), generate


_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))


def _compiled(function: Any) -> Any:
    try:
        return nb.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return nb.njit(nogil=True)(function)


@_compiled
def _crc(data, third, advance):  # type: ignore[no-untyped-def]
    """CRC-32C of uint8 ``data``; ``advance`` moves a register over ``third`` zero bytes (0: one stream)."""
    if _LINUX and data.size >= _MAPPED_FROM:
        start = data.ctypes.data
        first = start - start % _PAGE
        _madvise(first, start + data.size - first, _POPULATE_READ)
    register = nb.uint64(0xFFFFFFFF)
    place = 0
    if third:
        second, last = nb.uint64(0), nb.uint64(0)
        for k in range(0, third, 8):
            register = _step(register, _word(data, k))
            second = _step(second, _word(data, third + k))
            last = _step(last, _word(data, 2 * third + k))
        for more in (second, last):
            moved = nb.uint64(0)
            for bit in range(32):
                if register >> nb.uint64(bit) & nb.uint64(1):
                    moved ^= nb.uint64(advance[bit])
            register = moved ^ more
        place = 3 * third
    while place + 8 <= data.size:
        register = _step(register, _word(data, place))
        place += 8
    while place < data.size:
        register = _step_byte(register, data[place])
        place += 1
    return register ^ nb.uint64(0xFFFFFFFF)


def _applied(matrix: list[int], vector: int) -> int:
    """Product over GF(2); column ``i`` of the matrix is what bit ``i`` becomes."""
    found = 0
    for bit, column in enumerate(matrix):
        if vector >> bit & 1:
            found ^= column
    return found


@lru_cache(maxsize=256)
def _advance(n_bytes: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Columns of the matrix that moves a register over ``n_bytes`` zero bytes: squared once a binary digit."""
    power = [_POLYNOMIAL if bit == 0 else 1 << (bit - 1) for bit in range(32)]  # over one zero bit
    found = [1 << bit for bit in range(32)]
    left = 8 * n_bytes
    while left:
        if left & 1:
            found = [_applied(power, column) for column in found]
        power = [_applied(power, column) for column in power]
        left >>= 1
    return np.array(found, dtype=np.uint32)


def crc32c_of(data: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """CRC-32C of a contiguous uint8 array; other threads run meanwhile.

    Examples
    --------
    >>> hex(crc32c_of(np.frombuffer(b"123456789", dtype=np.uint8))) if SUPPORTED else "0xe3069283"
    '0xe3069283'
    """
    third = data.size // 24 * 8 if data.size >= _STREAMS_FROM else 0
    return int(_crc(data, third, _advance(third)))
