"""The bytes of an audio file, as the parsers of its structure look at them."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from featstore.audio.remote import local_copy

__all__ = [
    "Content",
    "LocalContent",
    "RangedContent",
    "fingerprint",
    "fingerprint_of",
    "mapped",
    "syncsafe",
    "zeros_end",
]

_ZEROS = bytes(1 << 16)
_MOST_ZEROS = 1 << 20  # bytes that are taken for padding; more of them are silence


class Content(Protocol):
    """A file of known length whose bytes can be had by slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> bytes: ...


LocalContent = bytes | mmap.mmap  # all of it costs nothing but time to look at


@contextmanager
def mapped(path: str) -> Iterator[Content]:
    """A local file that is not empty, mapped into memory."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def zeros_end(content: Content, at: int) -> int:
    """Position of the first byte from ``at`` on that is not zero; ``at`` where the zeros are too many for padding."""
    begin = at
    while block := content[at : at + len(_ZEROS)]:
        if at - begin > _MOST_ZEROS:
            return begin
        if block != _ZEROS[: len(block)]:
            return at + len(block) - len(block.lstrip(b"\0"))
        at += len(block)
    return at


def syncsafe(size: bytes) -> int:
    """A number of an ID3 tag: seven bits in each of four bytes."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))


class RangedContent:
    """An open file that is expensive to read: slices are read where they are asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, stretch: slice) -> bytes:
        start, stop, _ = stretch.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(0, stop - start))


def fingerprint_of(content: LocalContent) -> str:
    """Bytes of a file and the start of their sha256: enough to notice that they changed."""
    return f"{len(content)}:{hashlib.sha256(content).hexdigest()[:16]}"


def fingerprint(path: str) -> str:
    """Fingerprint of an audio file, which is read from its start to its end.

    Raises
    ------
    OSError, DecodeError
        When it cannot be read, or fetched.
    """
    with local_copy(path) as local, open(local, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return f"{file.tell()}:{digest.hexdigest()[:16]}"
