"""TensorFlow checkpoints (V2, "tensor bundles") read without TensorFlow: an index of names, and files of raw numbers.

The index is a sorted table as LevelDB writes it: blocks of prefix-compressed keys, each with a CRC, and a footer that
finds the block of blocks. Its values are protocol buffers that say type, shape, file, offset, size and CRC of a tensor.
Facts: ``tensorflow/core/util/tensor_bundle``, ``tensorflow/core/protobuf/tensor_bundle.proto`` and LevelDB's
``doc/table_format.md``. Nothing in such a file is executed.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from featstore.errors import CheckpointError

__all__ = ["TensorEntry", "masked_crc32c", "parse_index", "read_checkpoint"]

MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # how a block is compressed, and its CRC
_FIX = "Fetch the checkpoint again"

# numbers of types in tensorflow/core/framework/types.proto
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "|u1",
    5: "<i2",
    6: "|i1",
    9: "<i8",
    10: "|b1",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}


_NUMBERS = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc"}  # fields of BundleEntryProto


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes
    ----------
    dtype : int
        TensorFlow's number of the type.
    shape : tuple of int
    shard, offset, size : int
        File, and bytes in it.
    crc : int
        Masked CRC-32C of the bytes.
    sliced : bool
        Whether the tensor was saved in parts.
    """

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    sliced: bool = False


def masked_crc32c(data: bytes) -> int:
    """CRC-32C in the rotated form in which it is stored, so that a CRC of a CRC is never taken.

    Examples
    --------
    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_checkpoint(
    read: Callable[[str], bytes], where: str, *, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, NDArray[Any]]:
    """Read the variables of a checkpoint.

    Parameters
    ----------
    read : callable
        From ``.index`` or ``.data-00000-of-00001`` (what follows the checkpoint's own name) to the file's bytes.
    where : str
        For messages.
    wanted : callable
        Which variables to read, by name.

    Returns
    -------
    dict of str to array
        In the index's order (sorted by name), each in its own type and shape.

    Raises
    ------
    CheckpointError
        The files are truncated, damaged (each block and each tensor has a checksum), or hold what is not read here.
    """
    n_shards, entries = parse_index(read(".index"), where)
    shards: dict[int, bytes] = {}
    found = {}
    for name, entry in entries.items():
        if not wanted(name):
            continue
        if entry.shard not in shards:
            shards[entry.shard] = read(f".data-{entry.shard:05d}-of-{n_shards:05d}")
        found[name] = _tensor(name, entry, shards[entry.shard], where)
    return found


def parse_index(data: bytes, where: str) -> tuple[int, dict[str, TensorEntry]]:
    """Return the number of data files and what an index says of each tensor, by name.

    Raises
    ------
    CheckpointError
        It is no index, or it is truncated or damaged.
    """
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise CheckpointError(
            f"not an index of a TensorFlow checkpoint, or cut short: {len(data)} bytes without its last mark",
            where,
            _FIX,
        )
    try:
        footer = _Reader(data[-_FOOTER_BYTES:-8])
        footer.varint(), footer.varint()  # block of meta blocks: there are none
        blocks = [value for _, value in _block(data, footer.varint(), footer.varint(), where)]
        pairs = [pair for handle in blocks for pair in _block(data, *_handle(handle), where)]
        header = _fields(dict(pairs)[b""])
        entries = {key.decode(): _entry(value) for key, value in pairs if key}
        is_big_endian, n_shards = _number(header, 2), _number(header, 1, 1)
    except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"the index is damaged: {error}", where, _FIX) from error
    if is_big_endian:
        raise CheckpointError("the checkpoint is big-endian", where, "Save it again on an ordinary machine")
    return n_shards, entries


class _Reader:
    """Bytes read from the front, as LevelDB and protocol buffers write them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise IndexError("a number is longer than 64 bits")

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise IndexError("it ends too early")
        self.at += count
        return part

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


def _handle(data: bytes) -> tuple[int, int]:
    reader = _Reader(data)
    return reader.varint(), reader.varint()


def _block(data: bytes, offset: int, size: int, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block, its checksum verified."""
    stored = data[offset : offset + size + _TRAILER_BYTES]
    if len(stored) < size + _TRAILER_BYTES or size < 4:
        raise IndexError(f"a block of {size} bytes at {offset} lies outside it")
    kind, crc = stored[size], struct.unpack("<I", stored[size + 1 :])[0]
    if masked_crc32c(stored[: size + 1]) != crc:
        raise CheckpointError(f"the index is damaged: wrong checksum of the block at byte {offset}", where, _FIX)
    if kind != 0:
        raise CheckpointError(
            f"the index is compressed (kind {kind})", where, "TensorFlow writes it plain: save the checkpoint again"
        )
    restarts = struct.unpack("<I", stored[size - 4 : size])[0]
    reader = _Reader(stored[: size - 4 * (restarts + 1)])
    key = b""
    while reader.more:
        shared, own, length = reader.varint(), reader.varint(), reader.varint()
        key = key[:shared] + reader.take(own)
        yield key, reader.take(length)


def _fields(data: bytes) -> dict[int, list[Any]]:
    """Values of a protocol buffer message, whole numbers or bytes, by the numbers of their fields."""
    reader = _Reader(data)
    found: dict[int, list[Any]] = {}
    while reader.more:
        tag = reader.varint()
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value: int | bytes = reader.varint()
        elif wire == 2:
            value = reader.take(reader.varint())
        elif wire in (1, 5):
            value = int.from_bytes(reader.take(8 if wire == 1 else 4), "little")
        else:
            raise IndexError(f"field {number} has the unknown form {wire}")
        found.setdefault(number, []).append(value)
    return found


def _number(fields: dict[int, list[Any]], field: int, default: int = 0) -> int:
    """Last value of a field; a text in the place of a number is an error."""
    return operator.index(fields.get(field, [default])[-1])


def _entry(data: bytes) -> TensorEntry:
    fields = _fields(data)
    dims = _fields(fields.get(2, [b""])[-1]).get(2, [])
    numbers = {name: _number(fields, field) for field, name in _NUMBERS.items()}
    return TensorEntry(shape=tuple(_number(_fields(dim), 1) for dim in dims), sliced=7 in fields, **numbers)


def _tensor(name: str, entry: TensorEntry, data: bytes, where: str) -> NDArray[Any]:
    place = f"{where}, {name}"
    if entry.sliced:
        raise CheckpointError("the variable was saved in slices", place, "Save the checkpoint from one device")
    if entry.dtype not in _DTYPES:
        raise CheckpointError(f"the variable has TensorFlow's type {entry.dtype}, which is not read here", place)
    dtype = np.dtype(_DTYPES[entry.dtype])
    if int(np.prod(entry.shape, dtype=np.int64)) * dtype.itemsize != entry.size:
        raise CheckpointError(f"the index is damaged: {entry.shape} in {entry.size} bytes of {dtype}", place, _FIX)
    raw = data[entry.offset : entry.offset + entry.size]
    if len(raw) < entry.size:
        raise CheckpointError(
            f"the data file is cut short: it has {len(data)} bytes, the variable ends at {entry.offset + entry.size}",
            place,
            _FIX,
        )
    if masked_crc32c(raw) != entry.crc:
        raise CheckpointError("the data file is damaged: wrong checksum", place, _FIX)
    return np.frombuffer(raw, dtype).reshape(entry.shape)
