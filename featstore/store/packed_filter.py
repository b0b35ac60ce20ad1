"""The HDF5 filter of packed tokens, so that plain h5py reads them too once :func:`register` was called.

HDF5's own filters cannot hold them: N-bit has no room for a fill value beside 2048 codes in 11 bits, and scale-offset
takes 12. featstore itself decodes chunks without this; without featstore h5py says that the filter is missing.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from typing import Any

from featstore.store.hdf5_store import PACKED_FILTER
from featstore.store.packing import unpack_chunk

__all__ = ["register"]

logger = logging.getLogger(__name__)

_REVERSE = 0x0100  # H5Z_FLAG_REVERSE: the filter is asked to decode
_SIZE_POINTER, _BUFFER_POINTER = ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_void_p)
_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    _SIZE_POINTER,
    _BUFFER_POINTER,
)


class _Class(ctypes.Structure):
    """``H5Z_class2_t``."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", _FILTER),
    )


@functools.cache
def register() -> None:
    """Make packed tokens readable for h5py in this process (once is enough)."""
    import h5py

    memory = ctypes.CDLL(None)  # HDF5 frees the block that it is given with the C library's own free
    memory.malloc.restype, memory.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    memory.free.argtypes = [ctypes.c_void_p]

    def decode(flags: int, n_settings: int, settings: Any, n_bytes: int, room: Any, buffer: Any) -> int:
        if not flags & _REVERSE:
            return 0  # chunks are written packed, never through this filter
        try:
            bits, axis, *shape = (int(settings[i]) for i in range(n_settings))
            values = unpack_chunk(ctypes.string_at(buffer[0], n_bytes), bits, tuple(shape), axis).tobytes()
        except (ValueError, TypeError):
            logger.error("a packed chunk cannot be unpacked: run featstore store verify")
            return 0  # which HDF5 takes for failure
        block = memory.malloc(len(values))
        ctypes.memmove(block, values, len(values))
        memory.free(buffer[0])
        buffer[0], room[0] = block, len(values)
        return len(values)

    register.kept = _Class(1, PACKED_FILTER, 1, 1, b"featstore packed", None, None, _FILTER(decode))  # type: ignore[attr-defined]
    h5py.h5z.register_filter(ctypes.addressof(register.kept))  # type: ignore[attr-defined]
