"""Crops out of stored chunks, many in one call of compiled code: checked, cut, looked up and searched for holes there.

A call lets other threads run from its first to its last crop. One call a crop would do little but wait: for the
interpreter's lock, behind the other threads' short pieces of Python.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import AnyArray, IntArray
from featstore.compiling import Floats, Integers, Library
from featstore.kernel_code import Code, Index
from featstore.loaders.codes import Decoder

__all__ = ["Rooms", "checksum_address", "gather"]

# A piece of a crop: its chunk's address, then in values: what lies in the chunk before it, from row to row, from frame
# to frame, and frames; address and distance of rows where it goes to; bytes of the chunk that are to be checked first.
_FIELDS = ("chunk", "begin", "pitch", "step", "frames", "room", "room_pitch", "size", "verdict")
_PIECE = np.dtype([(name, np.int64) for name in _FIELDS])
_NO_TABLE = np.zeros(1, dtype=np.float32)

_library = Library(__file__)


class Rooms(NamedTuple):
    """Memory that crops go to, contiguous ``(*lead, frames)`` each.

    Attributes
    ----------
    addresses, frames : numpy.ndarray
        int64 ``(n_crops,)``.
    itemsize : int
        Bytes of a value.
    decoded : bool
        Whether they take float32 values, where codes have a table.
    """

    addresses: IntArray
    frames: IntArray
    itemsize: int
    decoded: bool = False

    @classmethod
    def of(cls, batch: AnyArray, decoder: Decoder) -> Rooms:
        """Rooms of the crops of a contiguous array ``(n_crops, *lead, frames)``."""
        addresses = batch.__array_interface__["data"][0] + np.arange(len(batch)) * (batch.nbytes // max(1, len(batch)))
        frames = np.full(len(batch), batch.shape[-1])
        return cls(addresses, frames, batch.itemsize, decoder.has_table and batch.dtype == np.float32)

    def pieces(self, crops: IntArray, frames: IntArray | int) -> NDArray[Any]:
        """Pieces to be filled in, a structured array: they go behind some frames of the rooms of these crops."""
        made = np.zeros(len(crops), dtype=_PIECE)
        made["room"] = self.addresses[crops] + frames * self.itemsize
        made["room_pitch"] = self.frames[crops]
        return made


def gather(pieces: NDArray[Any], decoder: Decoder, *, rows: int, decoded: bool) -> None:
    """Copy pieces of ``rows`` rows each to where they go, and give the verdict on each: 0 where it is sound.

    Nobody may free a chunk or a room meanwhile; addresses are not checked.
    """
    width = decoder.dtype.itemsize
    mask, flip, limit = _missing(decoder)
    settings = np.array([rows, mask, flip, limit], dtype=np.uint64).view(np.int64)
    way, table = decoder.host_table if decoded else ("copied", _NO_TABLE)
    _KERNELS[width, way](table, pieces.view(np.int64), len(pieces), settings, checksum_address())


def _missing(decoder: Decoder) -> tuple[int, int, int]:
    """What is *missing*: a code whose bits, masked and flipped, are above a limit."""
    bits = 8 * decoder.dtype.itemsize
    every = (1 << bits) - 1
    if decoder.dtype.kind == "f":  # without the sign, NaN are the patterns above infinity's
        return every >> 1, 0, int(np.array(np.inf, decoder.dtype).view(f"u{bits // 8}"))
    return every, every ^ (int(decoder.fill) & every), every - 1


@functools.cache
def checksum_address() -> int:
    """Address of the C function ``crc32c_value`` of Google's library; 0 where there is none."""
    try:
        from google_crc32c import _crc32c

        return ctypes.cast(ctypes.CDLL(_crc32c.__file__).crc32c_value, ctypes.c_void_p).value or 0
    except (ImportError, OSError, AttributeError):  # a pure Python build of it
        return 0


def _kernel(width: int, way: str) -> Callable[..., None]:
    """Kernel for codes of ``width`` bytes: copied, looked up in a table, or scaled by what is there instead."""

    def emit(code: Code, table: Floats, pieces: Integers, count: Index, settings: Integers, checksum: Index) -> None:
        from llvmlite import ir

        builder, kind = code.builder, ir.IntType(8 * width)
        placed, placed_width = (kind, width) if way == "copied" else (ir.FloatType(), 4)
        rows, *pattern = (code.integer(settings, k) for k in range(4))
        mask, flip, limit = (builder.trunc(number.value, kind) for number in pattern)

        def number(place: Index | Any) -> Any:
            return builder.load(builder.gep(table, [getattr(place, "value", place)]))

        def value_of(found: Any) -> Any:
            if way == "copied":
                return found
            if way == "looked_up":
                return number(builder.zext(found, ir.IntType(64)))
            convert = builder.sitofp if way == "scaled_signed" else builder.uitofp
            return builder.fadd(builder.fmul(convert(found, placed), number(code.index(0))), number(code.index(1)))

        def copy(source: Index, target: Index, frames: Index, step: Index | int, greatest: Any) -> None:
            codes, room = _pointer(source, kind), _pointer(target, placed)
            with code.loop(frames) as frame:
                found = builder.load(builder.gep(codes, [(frame * step).value]), align=1)
                bits = builder.xor(builder.and_(found, mask), flip)
                above = builder.icmp_unsigned(">", bits, greatest.get())
                greatest.set(builder.select(above, bits, greatest.get()))
                builder.store(value_of(found), builder.gep(room, [frame.value]), align=1)

        with code.loop(count) as n:
            at = n * len(_FIELDS)
            chunk, begin, pitch, step, frames, room, room_pitch, size = (code.integer(pieces, at + k) for k in range(8))
            verdict, greatest = code.variable(code.index(0)), code.variable(kind(0))
            with builder.if_then(code.index(0) < size):
                verdict.set(_checksum_differs(code, checksum, chunk, size))
            with code.loop(rows) as row:
                source = chunk + (begin + row * pitch) * width
                target = room + row * room_pitch * placed_width
                with builder.if_else(step < 2) as (close, apart):
                    with close:  # a loop of its own, as it becomes one of vectors
                        copy(source, target, frames, 1, greatest)
                    with apart:
                        copy(source, target, frames, step, greatest)
            hole = builder.icmp_unsigned(">", greatest.get(), limit)
            code.put(pieces, at + 8, code.chosen(hole, 1, verdict.get()))

    emit.__name__ = f"gather_{width}_{way}"
    return _library.kernel(emit)


def _pointer(address: Index, kind: Any) -> Any:
    return address.code.builder.inttoptr(address.value, kind.as_pointer())


def _checksum_differs(code: Code, checksum: Index, chunk: Index, size: Index) -> Index:
    """1 where bytes do not have the crc32c that lies behind them, else 0."""
    from llvmlite import ir

    found = code.call(checksum, chunk, size) & 0xFFFFFFFF
    stored = code.builder.load(_pointer(chunk + size, ir.IntType(32)), align=1)
    differs = code.builder.icmp_unsigned("!=", found.value, code.builder.zext(stored, ir.IntType(64)))
    return code.chosen(differs, 1, 0)


_KERNELS = {(width, "copied"): _kernel(width, "copied") for width in (1, 2, 4, 8)} | {
    (width, way): _kernel(width, way) for width in (1, 2) for way in ("looked_up", "scaled", "scaled_signed")
}
