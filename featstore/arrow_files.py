"""Bytes as a file that Arrow's own threads may hold on to."""

from __future__ import annotations

from typing import Any

__all__ = ["arrow_file"]


def arrow_file(content: bytes) -> Any:
    """Return a ``pyarrow.BufferReader`` of a copy of the bytes, in memory of Arrow's.

    Arrow reads Parquet in threads of its own, and they may let go of their last buffer after the reader has returned.
    Where that is an object of Python's, as it is with ``BufferReader(bytes)`` or an open file, the thread then asks for
    the interpreter's lock, and a process that is just ending is aborted ("terminate called without an active
    exception"). A copy has no such object; it costs a hundred bytes per track.
    """
    import pyarrow as pa

    stream = pa.BufferOutputStream()
    stream.write(content)
    return pa.BufferReader(stream.getvalue())
