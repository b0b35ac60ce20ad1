"""Whole numbers below a power of two, packed bit by bit: number k takes the bits from ``k * bits`` on, least first.

Only frames that are there are packed. How many there are follows from the number of bytes, as long as a number has more
bits than a byte: so the frames that a chunk lacks need no code of their own, and all ``2 ** bits`` codes are valid.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray
from featstore.errors import StoreError

__all__ = ["MISSING", "pack_bits", "pack_chunk", "packed_bytes", "unpack_bits", "unpack_chunk"]

MISSING = 65535  # of an unpacked token, as in the type that it is unpacked to
Bits = npt.NDArray[np.uint16]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that so many numbers take.

    Examples
    --------
    >>> packed_bytes(10335, 11)
    14211
    """
    return -(-count * bits // 8)


def pack_bits(values: AnyArray, bits: int) -> bytes:
    """Pack numbers (any shape, C order) of ``bits`` bits, 9 to 16, into bytes; the last byte is filled with zeros.

    Raises
    ------
    StoreError
        When a number needs more bits.

    Examples
    --------
    >>> pack_bits(np.array([1, 2], dtype=np.uint16), 11).hex()
    '011000'
    """
    flat = np.ascontiguousarray(values, dtype="<u2").reshape(-1)
    if flat.size and int(flat.max()) >= 1 << bits:
        raise StoreError(f"the code {int(flat.max())} does not fit into {bits} bits", "", "Use the encoding uint16")
    pairs = np.unpackbits(flat.view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    return np.packbits(pairs[:, :bits], bitorder="little").tobytes()


def unpack_bits(data: Any, bits: int, count: int) -> Bits:
    """Return the first ``count`` numbers that :func:`pack_bits` packed."""
    # three zero bytes more: the window of the last number may reach beyond the data
    padded = np.zeros(packed_bytes(count, bits) + 3, dtype=np.uint8)
    padded[:-3] = np.frombuffer(data, dtype=np.uint8, count=len(padded) - 3)
    first = np.arange(count, dtype=np.int64) * bits
    place = first >> 3
    window = padded[place].astype(np.uint32)
    window |= padded[place + 1].astype(np.uint32) << np.uint32(8)
    window |= padded[place + 2].astype(np.uint32) << np.uint32(16)
    window >>= (first & 7).astype(np.uint32)
    values: Bits = (window & np.uint32((1 << bits) - 1)).astype("<u2")
    return values


def pack_chunk(values: AnyArray, bits: int, axis: int = -1) -> bytes:
    """Pack a chunk in slices along one axis (time, or excerpts), without the missing slices at its end.

    Raises
    ------
    StoreError
        When something in the middle is missing, or a number needs more bits.
    """
    slices = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    there = np.flatnonzero((slices != MISSING).any(axis=1))
    return pack_bits(slices[: int(there[-1]) + 1 if there.size else 0], bits)


def unpack_chunk(data: Any, bits: int, shape: tuple[int, ...], axis: int = -1) -> Bits:
    """Return a chunk of ``shape``; the slices along ``axis`` that it lacks are :data:`MISSING`.

    Raises
    ------
    ValueError
        When the data hold more than the shape has room for, or no whole number of slices.
    """
    total = shape[axis]
    items = math.prod(shape) // max(1, total)
    count = 8 * len(data) // bits
    if count > items * total or count % max(1, items) or packed_bytes(count, bits) != len(data):
        raise ValueError(f"{len(data)} bytes are no packed chunk of shape {shape}")
    out = np.full(shape, MISSING, dtype="<u2")
    slices = np.moveaxis(out, axis, 0)
    there = count // max(1, items)
    slices[:there] = unpack_bits(data, bits, count).reshape(there, *slices.shape[1:])
    return out
