"""A tiny writer of TensorFlow checkpoints, for tests: the counterpart of ``featstore.models.tf_checkpoint``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.models.tf_checkpoint import MAGIC, masked_crc32c

__all__ = ["write_bundle"]

_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19, "complex64": 8}


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""  # zeros are left out, as protocol buffers do


def _message(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _entry(array: NDArray[Any], offset: int, raw: bytes, shard: int) -> bytes:
    shape = b"".join(_message(2, _number(1, size)) for size in array.shape)
    text = _number(1, _NUMBERS[array.dtype.name]) + _message(2, shape) + _number(3, shard)
    text += _number(4, offset) + _number(5, len(raw))
    return text + _varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(raw))


def _table_block(pairs: list[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Keys share what they begin with, but for every ``interval``-th."""
    out, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def write_bundle(
    folder: str | Path,
    variables: Mapping[str, NDArray[Any]],
    *,
    shards: int = 1,
    keys_a_block: int = 40,
    header: bytes = b"",
) -> Path:
    """Write ``.index`` and ``.data-…`` files with an empty base name; ``header`` replaces the one that fits."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [b""] * shards
    pairs = [(b"", header or _number(1, shards) + _message(3, _number(1, 1)))]
    for number, name in enumerate(sorted(variables)):
        array = np.ascontiguousarray(variables[name])
        raw, shard = array.tobytes(), number % shards
        pairs.append((name.encode(), _entry(array, len(files[shard]), raw, shard)))
        files[shard] += raw
    for shard, content in enumerate(files):
        (folder / f".data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    table, handles = b"", []

    def add(block: bytes) -> bytes:
        nonlocal table
        handle = _varint(len(table)) + _varint(len(block))
        plain = block + b"\0"  # not compressed
        table += plain + struct.pack("<I", masked_crc32c(plain))
        return handle

    for start in range(0, len(pairs), keys_a_block):
        part = pairs[start : start + keys_a_block]
        handles.append((part[-1][0], add(_table_block(part))))
    footer = add(_table_block([])) + add(_table_block(handles, interval=1))
    (folder / ".index").write_bytes(table + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC))
    return folder
