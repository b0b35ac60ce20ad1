"""TensorBoard's event files, written without TensorBoard: records of a length, a checksum and a small message.

Format: TensorFlow's record files (length and data, each followed by its masked CRC-32C) holding ``Event`` messages of
protocol buffers: field 1 wall time, 2 step, 3 file version, 5 summary of values (1: tag, 2: simple value).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featstore.atomic import disk_errors, write_bytes
from featstore.models.tf_checkpoint import masked_crc32c

__all__ = ["append_events", "event_records", "restart_events", "scalars_of"]


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, message))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _event(time: float, body: bytes) -> bytes:
    return _record(struct.pack("<Bd", 1 << 3 | 1, time) + body)


def scalars_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a line of metrics by their tags: ``train/loss``, ``valid/roc_auc``, ``learning_rate``.

    Examples
    --------
    >>> scalars_of({"epoch": 0, "step": 4, "time": 1.5, "train": {"loss": 0.5}, "learning_rate": 0.1})
    {'train/loss': 0.5, 'learning_rate': 0.1}
    """
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= {f"{key}/{name}": float(inner) for name, inner in value.items() if inner is not None}
        elif isinstance(value, int | float) and key not in ("epoch", "step", "time"):
            found[key] = float(value)
    return found


def event_records(line: Mapping[str, Any]) -> bytes:
    """One event for a line of metrics; its step is the epoch."""
    values = b""
    for tag, value in scalars_of(line).items():
        scalar = _bytes_field(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value)
        values += _bytes_field(1, scalar)
    return _event(float(line["time"]), _varint(2 << 3) + _varint(int(line["epoch"])) + _bytes_field(5, values))


def restart_events(path: Path, lines: Iterable[Mapping[str, Any]], *, time: float) -> None:
    """Write a new file that holds the events of ``lines``: those of a resumed run, without what came after."""
    head = _event(time, _bytes_field(3, b"brain.Event:2"))
    write_bytes(path, head + b"".join(event_records(line) for line in lines))


def append_events(path: Path, line: Mapping[str, Any]) -> None:
    """Add the event of a line of metrics."""
    with disk_errors(path), path.open("ab") as file:
        file.write(event_records(line))
