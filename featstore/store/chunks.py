"""One chunk's way to bytes and back: little-endian values, optional compression, crc32c at the end."""

from __future__ import annotations

import math
import zlib
from typing import Any

import crc32c as castagnoli
import numpy as np

from featstore.arrays import AnyArray
from featstore.errors import CorruptFeature, StoreError
from featstore.store.old_formats import PACKED11, unpack_tokens

__all__ = [
    "CRC_BYTES",
    "GZIP_LEVEL",
    "blosc_codec",
    "checked",
    "compress",
    "crc32c",
    "decode_chunk",
    "decompress",
    "zarr_codecs",
]

CRC_BYTES = 4
GZIP_LEVEL = 4
_BLOSC_LEVELS = {"lz4": 5, "zstd": 3}


def crc32c(data: bytes | memoryview) -> bytes:
    """Castagnoli checksum as the four little-endian bytes that the Zarr codec appends; other threads run meanwhile."""
    return castagnoli.crc32c(data).to_bytes(4, "little")


def checked(data: memoryview, where: str) -> memoryview:
    """Return ``data`` without its checksum.

    Raises
    ------
    CorruptFeature
        When the checksum does not fit the bytes.
    """
    body = data[:-CRC_BYTES]
    if crc32c(body) != bytes(data[-CRC_BYTES:]):
        raise CorruptFeature(
            "stored bytes fail their checksum", where, "Run featstore store verify, then featstore store repair"
        )
    return body


def blosc_codec(compression: str, itemsize: int) -> Any:
    """Return the codec of a compression: Blosc with bit-shuffle, which suits slowly varying numbers."""
    if compression not in _BLOSC_LEVELS:
        raise StoreError(f"unknown compression {compression!r}", "", "Use none, lz4 or zstd")
    from numcodecs import Blosc, blosc

    # with threads of its own, which it uses in the main thread only, Blosc stores blocks in the order they get ready
    blosc.use_threads = False
    level = _BLOSC_LEVELS[compression]
    return Blosc(cname=compression, clevel=level, shuffle=Blosc.BITSHUFFLE, typesize=itemsize)


def _byte_shuffle(itemsize: int) -> Any:
    from numcodecs import Shuffle

    return Shuffle(itemsize)


def compress(values: AnyArray, compression: str) -> bytes | memoryview:
    """Bytes of one chunk (C order) without a checksum; without compression no copy."""
    raw = np.ascontiguousarray(values)
    if compression == "none":
        return raw.reshape(-1).view(np.uint8).data
    if compression == "gzip":  # of packed files: what HDF5 itself can undo
        return zlib.compress(bytes(_byte_shuffle(values.dtype.itemsize).encode(raw)), GZIP_LEVEL)
    return bytes(blosc_codec(compression, values.dtype.itemsize).encode(raw))


def decode_chunk(
    data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], compression: str, where: str
) -> AnyArray:
    """Values of one chunk; without compression a read-only view of ``data``, no copy."""
    return decompress(checked(data, where), dtype, shape, compression, where)


def decompress(body: Any, dtype: np.dtype[Any], shape: tuple[int, ...], compression: str, where: str) -> AnyArray:
    """Values of a chunk whose checksum was taken off."""
    if compression != "none":
        try:
            if compression == PACKED11:
                return unpack_tokens(body, shape)
            if compression == "gzip":
                body = _byte_shuffle(dtype.itemsize).decode(zlib.decompress(body))
            else:
                body = blosc_codec(compression, dtype.itemsize).decode(body)
        except (RuntimeError, ValueError, zlib.error) as error:
            raise CorruptFeature("a chunk cannot be decompressed", where, "Run featstore store repair") from error
    values = np.frombuffer(body, dtype=dtype)
    if values.size != math.prod(shape):
        raise CorruptFeature(
            f"a chunk holds {values.size} values instead of {shape}", where, "Run featstore store repair"
        )
    return values.reshape(shape)


def zarr_codecs(compression: str, itemsize: int) -> list[dict[str, Any]]:
    """Return the codec chain in Zarr v3 metadata: :func:`compress`, then a checksum."""
    chain: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}} if itemsize > 1 else {"name": "bytes"}
    ]
    if compression != "none":
        chain.append(
            {
                "name": "blosc",
                "configuration": {
                    "typesize": itemsize,
                    "cname": compression,
                    "clevel": _BLOSC_LEVELS[compression],
                    "shuffle": "bitshuffle",
                    "blocksize": 0,
                },
            }
        )
    return [*chain, {"name": "crc32c"}]
