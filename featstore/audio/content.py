"""The bytes of an audio file, as the parsers of its structure look at them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

__all__ = ["Content", "RangedContent", "mapped", "zeros_end"]

_ZEROS = bytes(1 << 16)
_MOST_ZEROS = 1 << 20  # bytes that are taken for padding; more of them are silence


class Content(Protocol):
    """A file of known length whose bytes can be had by slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> bytes: ...

    def find(self, wanted: bytes, start: int = ..., stop: int = ..., /) -> int:
        """First position of some bytes, -1 where there is none."""
        ...

    def rfind(self, wanted: bytes, start: int = ..., stop: int = ..., /) -> int:
        """Last position of some bytes, -1 where there is none."""
        ...


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

    def find(self, wanted: bytes, start: int = 0, stop: int | None = None) -> int:
        """First position of some bytes, -1 where there is none."""
        place = self[start : self._size if stop is None else stop].find(wanted)
        return place if place < 0 else place + start

    def rfind(self, wanted: bytes, start: int = 0, stop: int | None = None) -> int:
        """Last position of some bytes, -1 where there is none."""
        place = self[start : self._size if stop is None else stop].rfind(wanted)
        return place if place < 0 else place + start
